"""Configs are read as OmegaConf reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from milforge.runs.read_files import read_yaml

SCALARS = """\
a: 1e-3
b: 1E5
c: -1.5e3
d: 1_000
e: 0x1F
f: 012
g: yes
h: ~
i: 2020-01-01
j: 1:30
k: .inf
l: -.inf
m: 1.
n: .5
o: .5e3
p: +1e3
q: 1e
r: 1e5x
s: ''
t: "1e-3"
u: ${a}/b
v: ???
w: [1, 2e2, null, {x: false}]
x: {1: one, true: two, 1.5: three}
y: 1_000e2
z: "a\\n b\\u00e9"
"""
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_scalars(tmp_path):
    (tmp_path / "config.yaml").write_text(SCALARS)
    expected = OmegaConf.to_container(OmegaConf.create(SCALARS))
    found = read_yaml(tmp_path / "config.yaml")
    assert found == expected
    assert [type(each) for each in found.values()] == [type(each) for each in expected.values()]


@given(st.dictionaries(st.text(), values, max_size=4))
def test_what_omegaconf_wrote(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    OmegaConf.save(OmegaConf.create({"x": config}, flags={"allow_objects": True}), path)
    expected = OmegaConf.to_container(OmegaConf.load(path))
    assert read_yaml(path) == expected


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "a: {b: 1, b: 2}\n", "a: [1\n", "- a\n", ""])
def test_what_is_damaged(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config.yaml is damaged"):
        read_yaml(tmp_path / "config.yaml")
