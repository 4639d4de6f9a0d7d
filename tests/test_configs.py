"""Every shipped config composes, and its keys are those that the named classes take."""

from itertools import zip_longest
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigNode, ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from milforge.config import schema
from milforge.config.hydra_versions import VERSION_BASE
from milforge.config.keys import key_help
from milforge.config.keys.key_check import check_targets
from milforge.config.messages import config_dir, explain
from milforge.config.resolvers import prepare
from thinned import thinned

CONFIGS = Path(config_dir())
COMMANDS = ("train", "evaluate", "predict", "map")
# Not hydra: it sets Hydra itself and is no part of the config.
GROUPS = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob("*")
    if path.is_dir() and path.name not in ("hydra", "local")
)


def options(group):
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def compose_config(name="train", *overrides, config_dirs=()):
    prepare()
    path = [f"hydra.searchpath=[{','.join(map(str, config_dirs))}]"] if config_dirs else []
    with initialize_config_dir(str(CONFIGS), **VERSION_BASE):
        return compose(name, overrides=[*path, *overrides])


CHOICES = [(group, option) for group in GROUPS for option in options(group)]
PARTS = ("data", "split", "graph", "loader", "task", "loss", "metrics", "model", "module")
PARTS += ("trainer", "callbacks", "logger", "optimizer", "scheduler")


def rounds(groups):
    """Overrides that choose every option of these groups, one of each group at a time.

    A composition takes half a second, and options of two groups do not meddle with each other.
    """
    columns = [[f"{group}={option}" for option in options(group)] for group in groups]
    return [[each for each in row if each] for row in zip_longest(*columns)]


# What sets keys of others, or stands in a group of another, is composed alone.
ALONE = [[f"{group}={option}"] for group, option in CHOICES if group not in PARTS]


@pytest.mark.parametrize("overrides", [*ALONE, *rounds(PARTS)], ids=lambda value: value[0])
def test_every_option_composes_and_binds(overrides, monkeypatch):
    Plugins.instance()  # they register what is installed
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    if "ray.yaml" not in launchers:  # no test needs it; these are its keys
        node = {"_target_": "ray_launcher.RayLauncher", "ray": {"init": {}, "remote": {}}}
        stored = ConfigNode("ray.yaml", OmegaConf.create(node), "hydra/launcher", None, None)
        monkeypatch.setitem(launchers, "ray.yaml", stored)
    prepare()
    found = key_help.composed("train", overrides)
    config = found.config
    check_targets(config)
    # Each key is explained, by a comment in its YAML or by what takes it. Not those that an
    # experiment alone has, such as the names of targets.
    unexplained = [key.name for key in found.keys.values() if not key.description]
    assert unexplained == [] or overrides[0].startswith("experiment=")
    plain = OmegaConf.to_container(config, resolve=False)
    assert set(plain) == set(schema.TrainConfig.__dataclass_fields__)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose_and_bind(command):
    config = compose_config(command)
    check_targets(config)
    assert config.task_name == command


@pytest.mark.parametrize("command", ["evaluate", "predict", "map"])
def test_the_keys_of_evaluation_are_explained(command):
    prepare()
    keys = key_help.composed(command).keys.values()
    assert [key.name for key in keys if not key.description] == []


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_groups_of_evaluation_take_every_option(command):
    for overrides in rounds(PARTS[:-2]):
        config = compose_config(command, *overrides, "+monitor=x", "+monitor_mode=min")
        OmegaConf.set_struct(config, False)
        for key in ("monitor", "monitor_mode"):
            config.pop(key)  # the callbacks of training need them; the schema has them not
        check_targets(config)


def test_every_shipped_file_is_reached():
    reached = {f"{command}.yaml" for command in COMMANDS} | {"hydra/default.yaml"}
    reached |= {f"{group}/{option}.yaml" for group, option in CHOICES}
    shipped = {str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml")}
    assert reached == shipped - {path for path in shipped if path.startswith("local/")}


def test_the_schema_names_every_key_of_the_primary_configs():
    infer = schema.InferConfig
    keys = {
        "train": schema.TrainConfig,
        "evaluate": infer,
        "predict": infer,
        "map": schema.MapConfig,
    }
    for command, dataclass in keys.items():
        assert set(compose_config(command)) == set(dataclass.__dataclass_fields__)


def test_an_experiment_wins_over_the_keys_of_the_primary_config():
    config = compose_config("train", "experiment=keras_mil")
    assert config.task.class_weights == "balanced"
    assert config.callbacks.early_stopping.patience == 10
    # ... and the command line over the experiment
    config = compose_config(
        "train", "experiment=keras_mil", "task.class_weights=null", "data.train=5"
    )
    assert config.task.class_weights is None
    assert config.data.train == 5


def test_keras_mil_is_the_example_of_the_notebook():
    config = compose_config("train", "experiment=keras_mil")
    assert config.data.mean_size == 3
    assert config.data.sd_size == 0
    assert config.data.sampling == "plain"
    assert config.data.train == 1000
    assert config.data.val == 300
    assert list(config.model.encoder.hidden) == [128, 64]
    assert config.model.pool.att_dim == 256
    assert config.model.pool.gated is True
    assert config.model.attention_l2 == 0.01


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    thinned(
        [
            ("sed: 1", "sed", "seed"),
            ("data: {mean_sise: 3}", "data.mean_sise", "mean_size"),
            ("loader: {batchsize: 3}", "loader.batchsize", "batch_size"),
            ("defaults: [{override /split: kfold}]\nsplit: {fols: 3}", "split.fols", "folds"),
            (
                "defaults: [{override /graph: knn}]\ngraph: {neighbour: 4}",
                "graph.neighbour",
                "neighbours",
            ),
            ("defaults: [{override /loss: focal}]\nloss: {gama: 1}", "loss.gama", "gamma"),
            ("task: {class_weight: balanced}", "task.class_weight", "class_weights"),
            ("trainer: {max_epoch: 3}", "trainer.max_epoch", "max_epochs"),
            ("model: {pool: {att_dmi: 3}}", "model.pool.att_dmi", "att_dim"),
            ("model: {encoder: {hiden: [3]}}", "model.encoder.hiden", "hidden"),
            ("optimizer: {weight_deca: 0.1}", "optimizer.weight_deca", "weight_decay"),
            ("callbacks: {early_stoping: {patience: 3}}", "early_stoping", "early_stopping"),
            ("callbacks: {checkpoint: {monitr: x}}", "callbacks.checkpoint.monitr", "monitor"),
            ("logger: {wandb: {projct: x}}", "logger.wandb.projct", "project"),
            ("paths: {log_dri: x}", "log_dri", "log_dir"),
        ],
        every=3,
    ),
)
def test_an_experiment_with_a_misspelt_key_is_refused(tmp_path, text, wrong, right):

    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    with pytest.raises((ValueError, ConfigCompositionException, OmegaConfBaseException)) as caught:
        check_targets(compose_config("train", "experiment=mine", config_dirs=[tmp_path]))
    sentence = explain(caught.value, "train")
    assert wrong in sentence
    assert f"did you mean '{right}'" in sentence or f".{right}'" in sentence


def test_a_full_device_is_told_with_its_remedy():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    sentence = explain(error, "train")
    assert sentence.startswith("the memory of the device is full: lower loader.batch_size")
    assert "20.00 GiB" in sentence


def test_a_right_experiment_of_a_user_is_taken(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nseed: 7\ndata: {mean_size: 3}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    config = compose_config("train", "experiment=mine", config_dirs=[tmp_path])
    check_targets(config)
    assert (config.seed, config.data.mean_size) == (7, 3)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "milforge.nn.AttentionPol"}, r"part\._target_.*cannot be imported"),
        ({"_target_": "milforge.none.Such"}, r"part\._target_.*cannot be imported"),
        ({"_target_": "milforge.nn.MLPEncoder"}, r"part: .* needs 'instance_shape'"),
        ({"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1, "bais": 1}, "'bias'"),
        ([{"_target_": "torch.nn.ReLU", "in_place": True}], r"part\[0\]\.in_place.*'inplace'"),
    ],
)
def test_a_node_that_does_not_bind_is_refused(node, message):
    with pytest.raises(ValueError, match=message):
        check_targets(OmegaConf.create({"part": node}))
