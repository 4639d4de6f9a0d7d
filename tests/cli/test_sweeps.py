"""Many runs by one command: launchers, searches, what failed, and what is begun again."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from bag_folders import labelled_bags
from milforge.api.launch import Launch
from milforge.api.trainer import _check_launch
from milforge.api.training import Run
from milforge.callbacks import Interruption
from milforge.cli.common import sweep
from milforge.config import run_folders, search_metric
from milforge.config.hydra_versions import VERSION_BASE
from milforge.config.keys.key_check import check_targets
from milforge.config.messages import config_dir
from milforge.config.planned_jobs import planned_jobs
from milforge.config.resolvers import prepare
from thinned import thinned

SHORT = (
    "model.encoder.hidden=[8]",
    "trainer.max_epochs=1",
    "logger=none",
    "callbacks.figures=null",
)
RUN = ("data.train=8", "data.val=4", "data.test=4", *SHORT)
DROPOUT = "model.encoder.dropout=0.1,2,0.2"  # there is no dropout of 2
# What PyTorch says of it.
FAULT = "dropout probability has to be between 0 and 1, but got 2"


def sweep_folder(outcome, name):
    return outcome.folder / "logs" / "train" / "multiruns" / name


def statuses(folder):
    jobs = sorted(path for path in folder.iterdir() if path.name.isdigit())
    summaries = [json.loads((job / "summary.json").read_text()) for job in jobs]
    return [summary["status"] for summary in summaries], summaries


@pytest.mark.nightly
def test_joblib_runs_all_but_the_job_that_fails(tmp_path):
    """On bags from disk, which each job has workers of its own to read."""
    labelled_bags(tmp_path / "bags", count=16)
    data = ("data=feature_bags", "data.root=bags", "data.labels=labels.csv", "split.folds=4")
    (tmp_path / "readers.py").write_text(
        "from multiprocessing import active_children\n"
        "from lightning.pytorch.callbacks import Callback\n"
        "class Readers(Callback):\n"
        "    def on_train_epoch_end(self, trainer, module):\n"
        "        print(len(active_children()), 'processes read', flush=True)\n"
    )
    workers = ("loader.num_workers=2", "+callbacks.readers._target_=readers.Readers")
    launch = ("launcher=joblib", "hydra.launcher.n_jobs=2")
    arguments = (*launch, *data, *workers, *SHORT, DROPOUT)
    # Not a fork: joblib's processes and what watches over them take after the one that starts them.
    done = subprocess.run(
        [sys.executable, "-m", "milforge.cli.train", "-m", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stdout.count("4 processes read") == 2  # two for training, two for validation
    # Every process found the folder of which the name is a time.
    (folder,) = (tmp_path / "logs" / "train" / "multiruns").iterdir()
    states, summaries = statuses(folder)
    assert states == ["finished", "failed", "finished"]
    assert summaries[1]["error"] == FAULT
    assert OmegaConf.load(folder / "0" / "config.yaml").sweep == folder.name
    shown = folder.relative_to(tmp_path)
    assert f"job 1 of 3, {shown}/0: 0 done, 0 failed" in done.stdout
    assert f"job 2 of 3, {shown}/1: failed: {FAULT}" in done.stderr
    *_, error = done.stderr.splitlines()
    assert error == f"error: 1 of 3 jobs did not finish, first {shown}/1: {FAULT}"
    survey = done.stdout[done.stdout.index("3 runs:") :]
    assert survey.startswith(f"3 runs: 2 finished, 1 failed\nfailed: {shown}/1: {FAULT}\n")
    # The groups of the table differ in what was swept, not in the name of the sweep.
    assert "\n  encoder.dropout  " in survey
    assert "sweep=" not in survey
    assert f"again        milforge-report {shown}" in survey


@pytest.mark.nightly
def test_failures_of_before_are_not_counted_when_a_sweep_is_begun_again(here):
    arguments = ("train", "-m", *RUN, "model.encoder.dropout=2,3", "sweep=demo")
    for _ in range(2):
        outcome = here(*arguments)
        assert "0: 0 done, 0 failed\n" in outcome.stdout
        assert "1: 0 done, 1 failed\n" in outcome.stdout


@pytest.mark.parametrize("flags", [(), ("-m", "seed=0,1", "sweep=demo")])
def test_ctrl_c_ends_a_run_and_a_whole_sweep_with_130(here, monkeypatch, flags):
    """Lightning takes it, and would end the process with 1."""
    begun = []

    def press(self, *batch):
        begun.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr("milforge.training.MILModule.training_step", press)
    before = signal.getsignal(signal.SIGINT)
    try:
        outcome = here("train", *flags, *RUN)
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome.returncode == 130
    assert begun == [1]
    assert not list(outcome.folder.rglob("summary.json"))


@pytest.mark.nightly
def test_submitit_survives_a_process_that_is_killed(process, tmp_path):
    (tmp_path / "deadly.py").write_text(
        "import os, signal\n"
        "from lightning.pytorch.callbacks import Callback\n"
        "class Deadly(Callback):\n"
        "    def __init__(self, seed: int) -> None:\n"
        "        self.seed = seed\n"
        "    def on_fit_start(self, trainer, module):\n"
        "        if self.seed == 1:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    deadly = ("+callbacks.deadly._target_=deadly.Deadly", "+callbacks.deadly.seed=${seed}")
    arguments = ("launcher=submitit_local", "seed=0,1", "sweep=demo", *deadly)
    outcome = process("train", "-m", *RUN, *arguments, PYTHONPATH=str(tmp_path))
    folder = sweep_folder(outcome, "demo")
    assert outcome.returncode == 1
    assert "Traceback" not in outcome.stderr
    assert "\nerror: the process of a job was killed (out of memory?)" in f"\n{outcome.stderr}"
    assert "sweep=demo" in outcome.stderr
    assert json.loads((folder / "0" / "summary.json").read_text())["status"] == "finished"
    assert not (folder / "1" / "summary.json").exists()
    printed = "".join(path.read_text() for path in folder.glob(".submitit/*/*.out"))
    assert "job 1 of 2" in printed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQL, on importing Optuna
@pytest.mark.nightly
def test_a_search_counts_a_failed_trial_and_goes_on_when_begun_again(process, here):
    command = ("train", "-m", "search=optuna", "hydra.sweeper.n_trials=3", "sweep=demo", "seed=1")
    # With this seed the first trial is one of those that fail.
    arguments = (*RUN, "model.encoder.dropout=0.1,2", "monitor=val/auroc", "monitor_mode=max")
    outcome = process(*command, *arguments)
    assert outcome.returncode == 0, outcome.stderr
    folder = sweep_folder(outcome, "demo")
    states, summaries = statuses(folder)
    assert sorted(set(states)) == ["failed", "finished"]
    found = OmegaConf.load(folder / "optimization_results.yaml")
    values = [each["metrics"]["val/auroc"] for each in summaries if each["status"] == "finished"]
    assert found.best_value == max(values)
    assert f"val/auroc {found.best_value:.4f} with optimizer.lr=" in outcome.stdout
    for noise in ("study", "alembic", "Failed experiment", "Traceback", "Warning"):
        assert noise not in outcome.stdout + outcome.stderr

    failed, last = states.index("failed"), len(states) - 1 - states[::-1].index("finished")
    kept = {n: (folder / str(n) / "summary.json").stat().st_mtime_ns for n in range(3)}
    shutil.rmtree(folder / str(last))
    (folder / "optimization_results.yaml").unlink()
    again = here(*command, *arguments)
    assert again.returncode == 0, again.stderr
    ran = [n for n in kept if (folder / str(n) / "summary.json").stat().st_mtime_ns != kept[n]]
    assert ran == [last]
    assert statuses(folder)[1][last]["metrics"] == summaries[last]["metrics"]
    assert OmegaConf.load(folder / "optimization_results.yaml") == found
    assert f"/{failed}: failed when the search was run before and is left so" in again.stderr


def test_a_sweep_that_breaks_off_is_not_surveyed(tmp_path, monkeypatch):
    """Hydra 1.4 calls what comes after a sweep then, too: its error is to be shown, not ours."""
    monkeypatch.chdir(tmp_path)

    def sweep_that_breaks_off():
        try:
            raise OSError("disk full")
        finally:
            sweep.Sweep().on_multirun_end(hydra_config())

    with pytest.raises(OSError, match="disk full"):
        sweep_that_breaks_off()


def test_a_job_that_failed_runs_anew(here, monkeypatch):
    faults = [OSError("disk full"), None]

    def fit(config, launch):
        assert not (Path(config.paths.output_dir) / "summary.json").exists()
        assert "figures" not in config.callbacks
        fault = faults.pop(0)
        if fault is not None:
            raise fault
        return Run(Path(config.paths.output_dir), {"val/loss": 0.5}, None)

    monkeypatch.setattr("milforge.api.training.fit", fit)
    for told in ("failed: disk full", "has no summary"):  # this one does not write it
        outcome = here("train", "-m", "seed=0", "sweep=demo", "~callbacks.figures")
        assert outcome.returncode == 1
        assert told in outcome.stdout + outcome.stderr
    assert faults == []


def test_two_sweeps_of_the_same_second_have_their_own_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folders, "_now", lambda: "now")
    names = []
    for _ in range(3):
        run_folders.forget()
        names.append(Path(run_folders.sweep_dir(str(tmp_path), None)).name)
    assert names == ["now", "now_2", "now_3"]


@pytest.mark.parametrize(
    ("group", "option", "argument", "extra"),
    [
        ("launcher", "joblib", "launcher=joblib", "joblib"),
        ("launcher", "joblib", "hydra/launcher=joblib", "joblib"),
        ("launcher", "submitit_slurm", "launcher=submitit_slurm", "submitit"),
        ("sweeper", "optuna", "search=optuna", "optuna"),
    ],
)
def test_a_plugin_that_is_not_installed(here, monkeypatch, group, option, argument, extra):
    Plugins.instance()  # they register here
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"][group], f"{option}.yaml")
    outcome = here("train", "-m", argument, "seed=0,1")
    expected = f'{group} {option} is not installed: pip install "milforge[{extra}]"'
    assert outcome.error() == expected
    assert not (outcome.folder / "logs").exists()


@pytest.mark.parametrize("argument", ["launcher=joblib", "search=optuna"])
def test_one_run_alone_takes_no_launcher_and_no_search(here, argument):
    assert here("train", argument).error() == f"{argument} is for many jobs: expected -m beside it"


def test_a_search_by_the_test_is_refused(here):
    metric = "optimized_metric=test/auroc"
    for flags in (["-m", "search=optuna"], []):
        outcome = here("train", *flags, metric)
        assert "the test meaningless; choose optimized_metric=val/auroc" in outcome.error()
        assert not list(outcome.folder.rglob("config.yaml"))


def test_a_metric_that_there_is_not():
    search_metric.check_metric("val/auroc", ["val/auroc"])
    with pytest.raises(ValueError, match=r"did you mean 'val/auroc'\? \(there are val/auroc\)"):
        search_metric.check_metric("val/aurc", ["val/auroc"])


def hydra_config(*overrides):
    prepare()
    job = ("hydra.job.name=train", "hydra.runtime.output_dir=x", "sweep=demo")
    with initialize_config_dir(config_dir(), **VERSION_BASE):
        return compose("train", overrides=[*job, *overrides], return_hydra_config=True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    thinned(
        [
            ([], "minimize"),
            (["monitor=val/auroc", "monitor_mode=max"], "maximize"),
            (["monitor=val/auroc"], "maximize"),
            (["monitor=val/ece"], "minimize"),
            (["optimized_metric=val/auroc"], "maximize"),
            (["optimized_metric=val/inst_auroc"], "maximize"),
            (["monitor_mode=max", "optimized_metric=val/ece"], "minimize"),
            (["metrics=per_class", "monitor=val/ap_per_class_9"], "maximize"),
            (["metrics=per_class", "~metrics.ap_per_class", "monitor=val/ap"], "maximize"),
            (["+metrics.error._target_=milforge.metrics.RMSE", "monitor=val/error"], "minimize"),
            (["+metrics.f1=null", "monitor=val/auroc"], "maximize"),
            (["task=regression"], "minimize"),
            (["task=regression", "monitor=val/r2"], "maximize"),
            (["task=regression", "optimized_metric=val/mae"], "minimize"),
            (["monitor=val/attention_entropy", "monitor_mode=max"], "maximize"),
            (["monitor=val/auroc", "monitor_mode=max", "optimized_metric=val/loss"], "minimize"),
        ],
        every=3,
    ),
)
def test_the_direction_of_a_search(arguments, expected):
    config = hydra_config("search=optuna", "seed=7", *arguments)
    assert config.hydra.sweeper.direction == expected
    assert config.hydra.sweeper.sampler.seed == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["monitor=val/aurco"], "did you mean 'auroc'?"),
        (["task=regression", "monitor=val/auroc"], "expected one of the metrics loss, inst_auroc"),
        (
            ["+metrics.x._target_=torchmetrics.SumMetric", "monitor=val/x"],
            "SumMetric to say whether",
        ),
    ],
)
def test_a_search_by_what_says_not_which_way_is_up_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)) as told:
        search_metric.direction(
            None, arguments[-1].partition("=")[2], None, _root_=hydra_config(*arguments)
        )
    assert "hydra.sweeper.direction=minimize or maximize says it" in str(told.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQL, on importing Optuna
def test_a_search_by_a_metric_that_there_is_not_is_one_sentence(here):
    outcome = here("train", "-m", "search=optuna", "monitor=val/aurco", "logger=none")
    error = outcome.error()
    assert not list(outcome.folder.glob("logs/*/*/*"))
    tested = here("train", "-m", "search=optuna", "optimized_metric=test/auroc", "logger=none")
    assert "test meaningless" in tested.error()
    assert not list(tested.folder.glob("logs/*/*/*"))
    assert error.startswith("expected one of the metrics loss, inst_auroc, inst_ap, auroc, ")
    assert "got 'val/aurco': did you mean 'auroc'? (hydra.sweeper.direction=" in error


def test_a_search_goes_by_the_monitor_of_the_task_where_nothing_is_named():
    assert search_metric.goal(hydra_config()) == "val/loss"
    assert search_metric.goal(hydra_config("monitor=val/ece")) == "val/ece"
    assert (
        search_metric.goal(hydra_config("monitor=val/ece", "optimized_metric=val/ap")) == "val/ap"
    )


def test_submitit_runs_as_many_jobs_at_a_time_as_there_are_processors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = hydra_config("launcher=submitit_local")
    sweep.Sweep().on_multirun_start(config)
    assert config.hydra.sweeper.max_batch_size == os.cpu_count()
    # The jobs compose their configs from this.
    assert config.hydra.overrides.hydra[-1] == f"hydra.sweeper.max_batch_size={os.cpu_count()}"
    config = hydra_config("launcher=submitit_local", "hydra.sweeper.max_batch_size=3")
    sweep.Sweep().on_multirun_start(config)
    assert config.hydra.sweeper.max_batch_size == 3


def test_a_search_has_a_plan_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "_quieten_optuna", lambda: None)  # importing it warns, of SQL
    sweep.Sweep().on_multirun_start(hydra_config("search=optuna"))
    assert planned_jobs(tmp_path / "logs" / "train" / "multiruns" / "demo") == 20


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-m", "sweep=cv", "seed=0,1"), "and sweep=cv"),
        (("run=a/b",), "and run=a/b"),
        (("hydra.run.dir=mine",), ""),  # the command names the folder itself
    ],
)
def test_what_is_typed_for_a_run_to_go_on(here, monkeypatch, arguments, named):
    monkeypatch.setattr(
        Interruption, "on_train_start", lambda *_: signal.raise_signal(signal.SIGTERM)
    )
    flags, keys = arguments[:1], arguments[1:]
    if not flags[0].startswith("-"):
        flags, keys = (), arguments
    outcome = here("train", *flags, *RUN, *keys)
    assert outcome.returncode == 128 + signal.SIGTERM
    sentence = f"; it goes on with the same command {named}".rstrip()
    assert [line for line in outcome.stdout.splitlines() if line.endswith(sentence)]


def test_slurm_is_needed_where_it_is_asked_for(here, monkeypatch):
    monkeypatch.setattr("milforge.cli.common.sweep.shutil.which", lambda name: None)
    error = here("train", "-m", "launcher=submitit_slurm", "seed=0,1").error()
    assert error.startswith("launcher submitit_slurm: expected srun and sbatch on this machine")


@pytest.mark.parametrize("launcher", ["SlurmLauncher", "BasicLauncher"])
@pytest.mark.parametrize("started", [True, False], ids=["by srun", "by itself"])
def test_a_job_of_slurm_may_have_several_processes(monkeypatch, launcher, started):
    """srun has started them all: the command line is not run again, as each other job would be."""
    if started:
        for name in ("NTASKS", "NTASKS_PER_NODE"):
            monkeypatch.setenv(f"SLURM_{name}", "2")
        for name in ("PROCID", "LOCALID", "NODEID"):
            monkeypatch.setenv(f"SLURM_{name}", "0")
        monkeypatch.setenv("SLURM_JOB_NAME", "train")
        monkeypatch.setenv("SLURM_NNODES", "1")
    launch = Launch(in_sweep=True, by_slurm=launcher == "SlurmLauncher")
    trainer = L.Trainer(
        accelerator="cpu", strategy="ddp", devices=2, logger=False, enable_checkpointing=False
    )
    if started and launcher == "SlurmLauncher":
        _check_launch(trainer, launch)
        return
    with pytest.raises(ValueError, match="one process per job in a multirun"):
        _check_launch(trainer, launch)


def test_the_script_for_slurm(tmp_path, monkeypatch):
    """What submitit would hand to sbatch."""
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    config = hydra_config("launcher=submitit_slurm", "hydra.launcher.partition=gpu")
    params = dict(config.hydra.launcher)
    for each in ("_target_", "submitit_folder"):
        params.pop(each)
    timeouts = params.pop("max_num_timeout")
    shared = OmegaConf.structured(BaseQueueConf)
    executor = submitit.AutoExecutor(tmp_path, cluster="slurm", slurm_max_num_timeout=timeouts)
    executor.update_parameters(**{k if k in shared else f"slurm_{k}": params[k] for k in params})
    script = executor._executor._make_submission_file_text("COMMAND", "id")
    for line in (
        "--partition=gpu",
        "--time=1440",
        "--signal=USR2@300",
        "--gpus-per-node=1",
        "--cpus-per-task=8",
        "--mem=64GB",
    ):
        assert f"#SBATCH {line}\n" in script
    # sbatch hands its --cpus-per-task on to srun no more.
    assert "\nexport SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK\n" in script
    assert executor._executor.max_num_timeout == 10


def test_the_sweep_of_wandb_composes():
    path = Path(__file__).parents[2] / "scripts" / "wandb_sweep.yaml"
    told = yaml.safe_load(path.read_text())
    values = {k: (v.get("values") or [v["min"]])[0] for k, v in told["parameters"].items()}
    command = [each for each in told["command"] if not each.startswith("${")]
    prepare()
    with initialize_config_dir(config_dir(), **VERSION_BASE):
        chosen = [*command, *(f"{key}={value}" for key, value in values.items())]
        config = compose("train", overrides=chosen)
    check_targets(config)
    assert config.logger.wandb.offline is False
    metric = told["metric"]["name"].removeprefix("best/")
    assert f"best/{metric}" == told["metric"]["name"]
    assert metric == search_metric.goal(config)
    assert told["metric"]["goal"] == search_metric.direction(metric, None, None, _root_=config)


DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "sweeps.md").read_text(encoding="utf-8")
SCALING = (DOCS / "scaling.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^milforge-train(?: -m)? ([^#\n]+)", f"{GUIDE}\n{SCALING}", re.M)


def test_the_guides_have_commands():
    assert len(COMMANDS) > 12


@pytest.mark.parametrize("command", thinned(COMMANDS, every=3))
def test_the_commands_of_the_guides_compose(command):
    swept = r"=(?:tag|interval)\(.*|=([^\[,]+),.*"
    overrides = [re.sub(swept, r"=\1", each) for each in shlex.split(command)]
    config = hydra_config(*[each for each in overrides if not each.endswith("=")])
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    check_targets(config)


def test_the_guide_names_every_launcher():
    shipped = {path.stem for path in (Path(config_dir()) / "launcher").glob("*.yaml")}
    assert set(re.findall(r"^\| `(\w+)` \|", GUIDE, re.M)) == shipped
