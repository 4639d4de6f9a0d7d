import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from milforge.nn import EachStream

STRANGE = ["conch_v1.5", "a.b", "a%2Eb", "", "values", "training", "forward", "names", "é 7"]


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor)))

    def forward(self, x):
        return self.factor * x


def test_names_may_be_any_text():
    each = EachStream({name: Times(i) for i, name in enumerate(STRANGE)})
    out = each({name: torch.ones(1) for name in reversed(STRANGE)})
    assert {name: int(x) for name, x in out.items()} == {n: i for i, n in enumerate(STRANGE)}
    assert list(out) == list(each.names) == sorted(STRANGE)
    assert [int(each[name].factor) for name in STRANGE] == list(range(len(STRANGE)))


@given(st.dictionaries(st.text(), st.integers(-9, 9), min_size=1))
def test_a_state_dict_belongs_to_the_names_and_not_to_their_order(factors):
    each = EachStream({name: Times(factor) for name, factor in factors.items()})
    twin = EachStream({name: Times(10) for name in reversed(factors)})
    assert len(each.state_dict()) == len(factors)
    twin.load_state_dict(each.state_dict())
    out = twin({name: torch.ones(()) for name in factors})
    assert {name: int(x) for name, x in out.items()} == factors


@pytest.mark.parametrize("streams", [["a"], ["a", "b", "c"], ["a", "c"], []])
def test_other_streams_are_refused(streams):
    each = EachStream({"b": Times(1), "a": Times(2)})
    with pytest.raises(ValueError, match=r"expected the streams \['a', 'b'\], got"):
        each({name: torch.ones(1) for name in streams})
