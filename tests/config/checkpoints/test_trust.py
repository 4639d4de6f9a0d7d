"""A checkpoint is data: what its config may name, and what it may hold."""

import ast
import sys
from pathlib import Path

import pytest

import milforge
from milforge.config.checkpoints.trust import (
    CLOSED,
    check_names,
    check_objects,
    plain_config,
    within_the_run,
)
from milforge.config.checkpoints.trusted_packages import checked_packages, trusted_packages

HARMFUL = [
    "sympy.sympify",
    "torch.load",
    "torch.hub.load",
    "torch.save",
    "torch.utils.collect_env.run",
    "torch.nn.modules.module.torch.load",
    "torch.nn.Module.load_state_dict",
    "torch.nn.functional.relu",
    "torch.optim.optimizer.functools.partial",
    "torchmetrics.utilities.imports.operator.methodcaller",
    "torchmetrics.text.BERTScore",
    "joblib.load",
    "os.system",
    "posix.system",
    "builtins.eval",
    "builtins.open",
    "subprocess.Popen",
    "pickle.loads",
    "hydra.utils.call",
    "hydra.utils.get_method",
    "importlib.import_module",
    "functools.partial",
    "operator.methodcaller",
    "numpy.load",
    "pandas.read_pickle",
    "webbrowser.open",
    "runpy.run_path",
    "code.interact",
    "timeit.timeit",
    "cProfile.run",
    "ctypes.CDLL",
    "logging.config.fileConfig",
    "shutil.rmtree",
    "shutil.copyfile",
    "pathlib.Path.write_text",
    "setuptools._distutils.spawn.spawn",
    "lightning.pytorch.loggers.csv_logs.os.system",
    "lightning.pytorch.loggers.CSVLogger",
    "lightning.pytorch.trainer.trainer.os.system",
    "lightning.pytorch.utilities.migration.migrate_checkpoint",
    "wandb.init",
    "wandb.Settings.__init__",
    "wandb.Settings",
    "milforge.load",
    "milforge.fit",
    "milforge.api.build.make",
    "milforge.api.trainer.write_config",
    "milforge.cli.train.main",
    "milforge.config.hydra_versions.instantiate",
    "milforge.config.run_identity.get_object",
    "milforge.data.write_split",
    "milforge.processes.files.atomic_path",
    "milforge.processes.files.os.replace",
    "milforge.data.wrappers.graph_bags.ContentCache",
    "milforge.data.content_cache.ContentCache",
    "milforge.data.images.sources.formats.packages.require",
    "milforge.data.images.large_image.np.load",
    "milforge.training.WholeCheckpointIO.save_checkpoint",
    "milforge.training.module.torch.load",
    "milforge.runs.summary.git_commit",
    "milforge.training",
    "milforge.graph.builder.ClassVar",
    "milforge",
    "milforge.",
    "milforge..nn",
    "milforge.nn.MeanPool\n",
    "${oc.env:HOME}",
    "milforge.nn._private",
    "torch.nnx.Linear",
    "",
    None,
    3,
    ["os.system"],
]


@pytest.mark.parametrize("target", HARMFUL, ids=repr)
def test_a_stored_config_names_nothing_that_does_harm(target):
    part = {"data": {"root": [{"x": {"_target_": target, "_partial_": True}}]}}
    with pytest.raises(ValueError, match=r"^ckpt_path: a.ckpt .* at data.root\[0\].x._target_"):
        check_objects(part, "ckpt_path: a.ckpt")


RIGHT = [
    "milforge.data.digits_bags",
    "milforge.data.feature_bags",
    "milforge.data.SplitFiles",
    "milforge.graph.AdjacencyBuilder",
    "milforge.functional.focal_loss",
    "milforge.models.BagNetwork",
    "milforge.nn.attention_pool.AttentionPool",
    "milforge.tasks.Auto",
    "milforge.training.MILModule",
    "torch.nn.Linear",
    "torch.nn.modules.linear.Linear",
    "torch.optim.Adam",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "torchmetrics.classification.BinaryAccuracy",
    "torchmetrics.Accuracy",
]
OF_THE_TRAINER = [
    "lightning.Trainer",
    "lightning.pytorch.Trainer",
    "lightning.pytorch.strategies.DDPStrategy",
    "lightning.pytorch.callbacks.EarlyStopping",
    "lightning.pytorch.loggers.CSVLogger",
    "wandb.Settings",
]


@pytest.mark.parametrize("target", [*RIGHT, *OF_THE_TRAINER])
def test_a_stored_config_names_what_a_run_is_made_of(target):
    group = "trainer" if target in OF_THE_TRAINER else "model"
    check_objects({group: {"x": {"_target_": target}}}, "ckpt_path: a.ckpt")


def test_positional_values_are_for_layers():
    """They would go past the names of the keys that say where something is written."""
    node = {"_target_": "milforge.graph.AdjacencyBuilder", "_args_": ["knn"]}
    with pytest.raises(ValueError, match=r"values without a name at graph\._args_"):
        check_names({"graph": node}, "a.ckpt")
    layers = {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}]}
    check_objects({"model": layers}, "a.ckpt")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A package of a user, which says when it is imported."""
    (tmp_path / "my_trusted.py").write_text(
        "import os\nfrom pathlib import Path\n"
        "Path(__file__).with_name('imported').touch()\n"
        "def pool(): ...\nclass Net:\n    @classmethod\n    def small(cls): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "imported"
    sys.modules.pop("my_trusted", None)


def test_nothing_is_imported_that_is_not_trusted(mine):
    with pytest.raises(ValueError, match="add trust=my_trusted, or"):
        check_objects({"model": {"_target_": "my_trusted.pool"}}, "a.ckpt")
    with pytest.raises(ValueError, match="cannot be imported"):
        check_objects({"model": {"_target_": "milforge.nn.my_trusted.pool"}}, "a.ckpt")
    assert not mine.exists()


def test_a_person_may_trust_a_package(mine):
    for target in ("my_trusted.pool", "my_trusted.Net", "my_trusted.Net.small"):
        check_objects({"model": {"_target_": target}}, "a.ckpt", ("my_trusted",))
    assert mine.exists()
    with pytest.raises(ValueError, match="may not call"):
        check_objects({"model": {"_target_": "my_trusted.os.system"}}, "a.ckpt", ("my_trusted",))
    with pytest.raises(ValueError, match="may not call"):
        check_names({"model": {"_target_": "my_trusted2.f"}}, "a.ckpt", ("my_trusted",))


def test_what_a_person_trusts_is_typed():
    assert trusted_packages(["data.root=x"]) == ()
    assert trusted_packages(["trust=a", "trust=b"]) == ("b",)
    assert trusted_packages(["+trust=[a.b,c]"]) == ("a.b", "c")
    assert trusted_packages(["trust=null"]) == ()
    assert checked_packages("mine") == checked_packages(("mine",)) == ("mine",)
    for wrong in ("trust=a-b", "trust=[a,[b]]", "trust=a,b", "trust={a: b}", "trust="):
        with pytest.raises(ValueError, match="expected trust as the name of a package"):
            trusted_packages([wrong])


@pytest.mark.parametrize(
    "value",
    ["${oc.env:HOME}", "${oc.decode:x}", "${run_dir:/tmp,x}", "a ${seed}", "${.b}", "\\${x}"],
)
def test_a_stored_config_refers_to_nothing(value):
    with pytest.raises(ValueError, match=r"holds the interpolation .* at data\.root\[1\] of its"):
        plain_config({"data": {"root": ["x", value]}}, "a.ckpt")
    with pytest.raises(ValueError, match="holds the interpolation"):
        plain_config({"data": {value: 1}}, "a.ckpt")


def nested(depth):
    node = []
    for _ in range(depth):
        node = [node]
    return node


def looped():
    node = {}
    node["again"] = node
    return node


def laughs():
    node = ["lol"]
    for _ in range(30):
        node = [node] * 10
    return node


@pytest.mark.parametrize(
    "config",
    [
        *(nested(10_000), looped(), laughs(), {"a": list(range(100_000))}, {"a": "x" * 10**6}),
        *({"a": 10**400}, {"a": (1, 2)}, {"a": b"x"}, {"a": {1, 2}}, {("a",): 1}, {"a": 1j}),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_stored_config_is_plain_and_of_some_size(config):
    with pytest.raises(ValueError, match=r"^a\.ckpt "):
        plain_config(config, "a.ckpt")


def test_stored_places_are_not_written_to():
    part = {
        "data": {"root": "/in", "cache": "/out", "streams": [{"adjacency_cache": "/out"}]},
        "trainer": {"default_root_dir": "/out", "profiler": {"dirpath": "/out"}, "max_epochs": 3}
        | {"logger": True, "callbacks": [1]},
    }
    assert within_the_run(part) == {
        "data": {"root": "/in", "cache": None, "streams": [{"adjacency_cache": None}]},
        "trainer": {"default_root_dir": None, "max_epochs": 3},
    }


WRITES = {
    *("mkdir", "touch", "unlink", "write_text", "write_bytes", "rmtree", "rename", "symlink_to"),
    *(
        "import_module",
        "get_object",
        "get_method",
        "instantiate",
        "atomic_path",
        "savefig",
        "Popen",
    ),
    *("exec", "system", "run_path", "rmdir", "save_checkpoint", "check_output"),
}


def called(path):
    """The names of what a file calls."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "func")]
    return {getattr(each, "attr", getattr(each, "id", "")) for each in calls}


def test_what_writes_or_imports_is_closed():
    """A module that begins to write a file stands in the list of what no checkpoint may call."""
    root = Path(milforge.__file__).parent
    writers = {}
    for path in root.rglob("*.py"):
        name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        closed = any(f"{name}.".startswith(f"{each}.") for each in CLOSED)
        found = called(path) & WRITES
        if found and not closed:
            writers[name] = found
    assert writers == {}
