"""`--help KEY`: what is printed comes from the YAML and from the docstrings."""

import pytest

from milforge.config.keys.key_help import answer, composed, question
from milforge.config.keys.yaml_comments import key_comments
from milforge.config.resolvers import prepare


@pytest.fixture(autouse=True)
def resolvers():
    prepare()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help", "seed"], "seed"),
        (["model=abmil", "-h", "model=dsmil"], "model=dsmil"),
        (["--help"], None),
        (["--help", "--config-dir", "conf"], None),
        (["seed=1"], None),
    ],
)
def test_what_is_asked_for(arguments, expected):
    assert question(arguments) == expected


def test_comments_of_every_kind():
    text = (
        "# The head.\n_target_: a.B\nplain: 1 # beside\n# above,\n# in two lines\nboth: x # here\n"
        "quoted: 'a # b'\nflow: {c: 1} # of a mapping\nnested: # of its keys\n  inner: 2 # deep\n"
        "items: # of a list\n  - 1\n  - 2\nlast: null"
    )
    assert dict(key_comments(text)) == {
        ("_target_",): "The head.",
        ("plain",): "beside",
        ("both",): "here. above, in two lines",
        ("quoted",): "",
        ("flow",): "of a mapping",
        ("flow", "c"): "",
        ("nested",): "of its keys",
        ("nested", "inner"): "deep",
        ("items",): "of a list",
        ("last",): "",
    }


def test_a_key_of_the_command_line():
    text = answer("data.mean_size", "train", ["data.mean_size=7", "--help", "data.mean_size"])
    assert "\n  default  7\n  type     float\n" in text
    assert "read by  milforge.data.digit" in text


def test_a_key_of_the_top_level_has_what_yaml_and_schema_say():
    text = answer("monitor_mode", "train", [])
    assert "min | max; null: as the metric says" in text
    assert "whether that metric is to be smallest" in text
    assert "type     str | None" in text


def test_a_group_lists_its_options_and_an_option_its_keys():
    text = answer("graph", "train", [])
    assert "options  chain | feature_knn | grid | knn | none | radius" in text
    text = answer("graph=radius", "train", ["graph=radius"])
    assert text.startswith("graph=radius\n")
    assert "\n  radius = " in text


def test_an_option_of_a_group_below_another():
    text = answer("model/encoder", "train", [])
    assert "identity" in text
    assert "\n  hidden = [256, 128]\n" in text


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("att_dim", "did you mean model.pool.att_dim?"),
        ("model.pool.att_dmi", "did you mean 'model.pool.att_dim'?"),
        ("lodaer", "did you mean 'loader'?"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"there is no key or group '{name}'") as error:
        answer(name, "train", [])
    assert near in str(error.value)


def test_the_configs_of_a_user_are_explained_too(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "# My model.\ndefaults: [abmil]\ndropout: 0.3 # much of it\n"
    )
    arguments = ["--config-dir", str(tmp_path), "model=mine"]
    assert answer("model=mine", "train", arguments).startswith("model=mine\n  My model.\n")
    text = answer("model.dropout", "train", [f"--config-dir={tmp_path}", "model=mine"])
    assert "much of it" in text
    assert "model/mine.yaml" in text
    with pytest.raises(ValueError, match="--config-dir: expected a folder of configs, got none"):
        answer("model", "train", ["--help", "model", "--config-dir"])


def test_the_commands_that_take_a_checkpoint_have_help_too():
    assert "averaged" in answer("ckpt_path", "evaluate", [])
    assert composed("predict").keys["task_name"].value == "predict"
