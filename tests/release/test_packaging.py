"""What is installed, what is imported, and what a wheel holds."""

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]

# The names that a user writes: one that vanishes breaks their code, one that comes is a promise.
SNAPSHOT = """
callbacks: BagRecord BestEpoch Dashboard FigureWriter Interruption MapWriter PredictionWriter
callbacks: RecordCollector SamplingFigures SmoothingMonitor progress
data: AllBags ArraySource Bag BagBatch BagDataset BagError BagHeader BagList BagReader BagSplits
data: BagTable CachedReader Canvas CovariateEncoder EvaluationBags Fault FeatureBags GraphBags
data: GraphCounts ImageBags ImageBatch ImageDataset ImageFolder Inspection KFold LabelError
data: LabelTable LabelledBags LabelledDataset Labels LargeImage Loader MegapixelImages PatientBags
data: RandomSplit SPLITS SlideSource Split SplitFiles Splitter TensorSource TiffSource TrainBatches
data: WrappedDataset as_dataset bag_outline bag_sizes bags_alone changes_nothing check_split
data: close_files collate_bags collate_images differs_by_epoch digits_bags digits_grid
data: digits_survival draw_bags feature_bags feature_moments image_folder inspect_folder
data: kfold_splits low_resolution megapixel mil_unit_test mnist_bags monte_carlo_splits open_reader
data: open_source patients_of read_idx read_labels read_splits set_epoch stored_labels
data: two_stream_digits unbatch write_split
functional: Steps attention_entropy attention_pool attention_supervision bag_attention
functional: baseline_hazard binary_cross_entropy brier_score concordance_index conditional_nll
functional: cox_nll cross_entropy cumulative_dynamic_auc cumulative_nll dirichlet_energy
functional: discrete_survival_nll focal_loss huber_loss kaplan_meier keyed_uniform known_mean
functional: linear_scan mean_absolute_error mean_squared_error relative_dirichlet_energy
functional: segment_argmax segment_auroc segment_average_precision segment_index segment_max
functional: segment_mean segment_rank segment_softmax segment_sum segment_weighted_sum weibull_nll
functional: weighted_sums
graph: AdjacencyBuilder build_adjacency check_adjacency count_isolated grid_stride
graph: normalize_adjacency radius_from_tiles
metrics: CalibrationError ConcordanceIndex CumulativeDynamicAUC IntegratedBrierScore Kind
metrics: LocalisationAUROC LocalisationAveragePrecision MAE MacroAUROC MacroAveragePrecision
metrics: OfTarget Pearson R2 RMSE Spearman UnoConcordanceIndex build_metrics direction_of
metrics: higher_is_better missing_options named_values
models: ACMIL AdditiveABMIL Auxiliary BagNetwork BagOutput CLAM DSMIL DTFD FeatureNetwork ILRA MHIM
models: MambaMIL PatchGCN RRT SamplingNetwork TransMIL Transformer WiKG
nn: AttentionCNN AttentionHeads AttentionPool AttentionVariancePool ConcatStreams EachStream
nn: FlattenEncoder IdentityEncoder LeNetEncoder MLPEncoder MaxPool MeanPool MultiHeadAttentionPool
nn: PatchCNN Sm SmAttentionPool Standardise StreamFusion
plots: BagStrip GroupResult SampledImage plot_attention_bars plot_attention_comparison
plots: plot_attention_maps plot_attention_over_epochs plot_bag_strips plot_calibration_at
plots: plot_confusion plot_kaplan_meier plot_learning_curves plot_predicted plot_report plot_roc_pr
plots: plot_sampled_patches plot_scores_over_time plot_stream_weights plot_survival_curves
sampling: AttentionSampling AttentionSamplingOutput Expectation ImageSource MultinomialEntropy
sampling: SamplePatches Tissue expectation extract_patches patch_offsets read_patches
sampling: sample_locations tissue_mask
statistics: AurocCovariance AurocDifference BootstrapEstimate Comparison Estimate Interval
statistics: OperatingPoint PermutationTest auroc auroc_interval average_precision benjamini_hochberg
statistics: bootstrap_interval brier_parts class_thresholds cluster_bootstrap clustered_proportion
statistics: compare_auroc compare_pairs concordance conformal_sets conformal_threshold debiased_ece
statistics: decision_curve delong dynamic_auroc fit_temperature holm log_rank mean_over_time
statistics: operating_point paired_permutation pairs_needed pairs_to_find power_of_pairs
statistics: precision_recall_curve recalibration reliability_bins roc_curve sensitivity_threshold
statistics: survival_brier wilson youden_threshold
tasks: Auto BagInWords Binary Columns Cox Multi Multiclass Multilabel Ordinal Regression Survival
tasks: SurvivalDiscrete Task Weibull
trackers: MLflow Patient Trackio
training: BagPredictions Ensemble MILDataModule MILModule WholeCheckpointIO
"""
PUBLIC: dict[str, list[str]] = {}
for line in SNAPSHOT.strip().splitlines():
    part, names = line.split(": ")
    PUBLIC.setdefault(f"milforge.{part}", []).extend(names.split())


def requirements(*, pinned=False):
    """Every requirement of the project and its extras, or of those that are pinned together."""
    extras = PROJECT["optional-dependencies"]
    (own,) = [each for each in map(Requirement, extras["dev"]) if each.name == PROJECT["name"]]
    names = {"dev", *own.extras} if pinned else set(extras)
    groups = [PROJECT["dependencies"], *(extras[name] for name in names)]
    named = [Requirement(text) for group in groups for text in group]
    return [each for each in named if each.name != PROJECT["name"]]


def pins():
    """Name -> its exact versions in constraints.txt, one a marker."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        found.setdefault(canonicalize_name(requirement.name), []).append(specifier.version)
    return found


def test_every_dependency_is_pinned_within_its_bound():
    versions = pins()
    for requirement in requirements(pinned=True):
        pinned = versions[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(Version(version)) for version in pinned)


def test_the_pins_name_no_address():
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"https?:|file:|--|@ ", text)


def test_every_dependency_has_a_lower_bound_and_a_reason():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for requirement in requirements():
        bounds = [each.operator for each in requirement.specifier]
        assert sorted(bounds) in ([">="], ["<", ">="]), requirement
        told = [line for line in lines if re.match(rf'\s+"{re.escape(requirement.name)}>=', line)]
        assert told
        assert all(re.search(r'",\s+# \w{3}', line) for line in told), requirement


def test_the_environment_of_conda_agrees_with_the_project():
    environment = yaml.safe_load((ROOT / "environment.yaml").read_text())
    assert environment["name"] == PROJECT["name"]
    python, pip, by_pip = environment["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    assert by_pip == {"pip": ["-c constraints.txt", "-e .[dev]"]}
    assert "dev" in PROJECT["optional-dependencies"]


def test_the_pythons_are_told_alike():
    names = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python ::" in each]
    minors = [int(name.removeprefix("3.")) for name in names]
    assert PROJECT["requires-python"] == f">=3.{min(minors)},<3.{max(minors) + 1}"
    text = f"Python {', '.join(names[:-1])} or {names[-1]}"
    assert f"with {text}, make and git:" in (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert f"milforge needs {text}:" in makefile
    assert f"(3, {min(minors)}) <= sys.version_info < (3, {max(minors) + 1})" in makefile


def test_the_version_is_told_alike():
    assert importlib.import_module("milforge").__version__ == PROJECT["version"]


def test_the_commands_are_there():
    commands = {
        each.name: each.value
        for each in entry_points(group="console_scripts")
        if each.name.startswith("milforge-")
    }
    assert commands == PROJECT["scripts"]
    for value in commands.values():
        module, function = value.split(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module):
    imported = importlib.import_module(module)
    assert sorted(imported.__all__) == sorted(PUBLIC[module])
    for name in imported.__all__:
        assert hasattr(imported, name)


def test_every_public_module_is_in_the_snapshot():
    # Of the others nothing is offered by the package: a name is imported from its module.
    inner = {
        f"milforge.{name}"
        for name in ("api", "cli", "config", "maps", "processes", "report", "runs")
    }
    packages = {
        f"milforge.{path.parent.name}" for path in (ROOT / "src" / "milforge").glob("*/__init__.py")
    }
    assert packages - inner == set(PUBLIC)


def test_signatures_of_the_design():
    """Section 4 of the design, as far as it is built."""
    from inspect import signature

    from milforge.data import BagBatch, collate_bags
    from milforge.nn import AttentionPool, MaxPool, MeanPool

    assert list(signature(AttentionPool).parameters) == ["in_dim", "att_dim", "act", "gated"]
    defaults = [each.default for each in signature(AttentionPool).parameters.values()]
    assert defaults == [None, 128, "tanh", False]
    forward = signature(AttentionPool.forward).parameters
    assert list(forward) == ["self", "X", "mask", "return_att", "ptr"]
    assert forward["ptr"].kind == forward["ptr"].KEYWORD_ONLY
    for pool in (MeanPool, MaxPool):
        assert len(list(pool().parameters())) == 0  # and it is built without arguments
        assert list(signature(pool.forward).parameters) == ["self", "X", "mask", "ptr"]
    assert len(signature(collate_bags).parameters) == 1
    for name in ("to", "pin_memory", "padded", "__len__"):
        assert callable(getattr(BagBatch, name))


def imported_by(*modules):
    """What a fresh process has imported after it imported these."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_the_package_and_the_commands_import_next_to_nothing():
    commands = [value.split(":")[0] for value in PROJECT["scripts"].values()]
    found = imported_by("milforge", *commands)
    assert not found & {"torch", "lightning", "wandb", "torchmetrics", "sklearn", "matplotlib"}
    assert not imported_by("milforge") & {"hydra", "omegaconf", "numpy"}


def test_operators_models_and_data_import_no_framework():
    parts = [f"milforge.{name}" for name in ("functional", "nn", "data", "models", "metrics")]
    found = imported_by(*parts, "milforge.plots")
    assert "torch" in found
    assert not found & {"lightning", "pytorch_lightning", "hydra", "omegaconf", "wandb"}


def test_source_files_import_no_private_parts_of_each_other():
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("milforge"):
                assert not [a.name for a in node.names if a.name.startswith("_")], path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this checkout, built with the packages at hand."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    options = ["--disable-pip-version-check", "--quiet", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.mark.slow
def test_a_wheel_holds_the_configs_and_no_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    configs = ROOT / "configs"
    shipped = {str(path.relative_to(configs)) for path in configs.rglob("*.yaml")}
    shipped = {name for name in shipped if not name.startswith("local/")}
    assert {f"milforge/configs/{name}" for name in shipped} <= names
    sources = ROOT / "src"
    assert {str(path.relative_to(sources)) for path in sources.rglob("*.py")} <= names
    assert "milforge/py.typed" in names
    top = {name.split("/")[0] for name in names}
    assert top == {"milforge", f"milforge-{PROJECT['version']}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_an_unpacked_wheel_finds_its_own_configs(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "from milforge.config.messages import config_dir\nfrom milforge.cli.train import main\n"
        "print(config_dir()); sys.stdout.flush(); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, *_ = done.stdout.splitlines()
    assert Path(first) == tmp_path / "site" / "milforge" / "configs"
    assert second == "milforge-train"
    assert "data: digits_bags, digits_chain, digits_grid, " in done.stdout
