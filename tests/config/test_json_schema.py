"""Schemas for editors say what the help says."""

import json

import pytest

from milforge.config.json_schema import HYDRA, choices, json_type, schema_of
from milforge.config.keys.key_help import Key


def key(name, value="", comment="", type="", argument=""):
    return Key(name, value, comment, argument, type, "milforge.x.Y", "data/x")


KEYS = [
    key("data", argument="a function that returns the bags"),
    key("data.root", "???", "the folder", "str"),
    key("data.bag", "slide", "slide | patient: all slides of a patient are one bag", "str"),
    key("data.seed", "${seed}", type="int"),
    key("data.inner.size", "3", "how many", "int | None"),
    key("model.width", "2"),
]


def test_the_keys_of_a_group():
    schema = schema_of(KEYS, "data", "an option of data")
    json.dumps(schema)
    properties = {k: v for k, v in schema["properties"].items() if k not in HYDRA}
    assert list(properties) == ["root", "bag", "seed", "inner"]
    assert properties["root"]["description"] == "the folder"
    assert "default" not in properties["root"]
    assert properties["bag"]["anyOf"][0] == {"enum": ["slide", "patient"]}
    assert properties["bag"]["default"] == "slide"
    assert properties["seed"]["anyOf"][1]["pattern"] == r"\$\{"
    size = properties["inner"]["anyOf"][0]["properties"]["size"]
    assert (size["default"], size["anyOf"][0]) == (3, {"type": ["integer", "null"]})
    assert schema.get("additionalProperties", True)


def test_options_of_one_group_may_have_keys_of_one_name():
    """None of them is refused what it takes."""
    keys = [
        key("data.layout", "grid", "grid | chain", "str"),
        key("data.layout", "null", "clam | trident; null finds out", "str | None"),
        key("data.free", "1", "a number", "int"),
        key("data.free", "1", "anything", "Any"),
    ]
    properties = schema_of(keys, "data")["properties"]
    allowed = [each.get("enum") for each in properties["layout"]["anyOf"]]
    assert allowed[:2] == [["grid", "chain"], ["clam", "trident", None]]
    assert "default" not in properties["layout"]
    assert properties["free"] == {"description": "a number\n\nanything", "default": 1}


def test_a_whole_config_has_its_groups():
    properties = schema_of(KEYS)["properties"]
    assert properties["data"]["description"] == "a function that returns the bags"
    assert "width" in properties["model"]["anyOf"][0]["properties"]
    assert {"type": ["null", "string"]} in properties["data"]["anyOf"]  # an option, or nothing


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("int", {"type": ["integer"]}),
        ("str | Path | None", {"type": ["string", "string", "null"]}),
        ("Literal['a', 'b']", {"enum": ["a", "b"]}),
        ("Sequence[int]", {}),
        ("", {}),
    ],
)
def test_types(annotation, expected):
    assert json_type(annotation) == expected


def test_choices_are_what_a_comment_lists_and_nothing_else():
    assert choices("raise | skip: go on without faulty bags") == {"enum": ["raise", "skip"]}
    assert choices("clam | table; null finds out")["enum"] == ["clam", "table", None]
    assert choices("1 | 2.5") == {"enum": [1, 2.5]}
    assert choices("weight of the loss") == {}
