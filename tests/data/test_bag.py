from dataclasses import FrozenInstanceError

import pytest
import torch

from milforge.data import Bag

X = torch.zeros(3, 2)
ADJ = torch.eye(3).to_sparse_csr()


@pytest.mark.parametrize("size", [0, 1, 5])
def test_length_is_the_number_of_instances(size):
    assert len(Bag(torch.zeros(size, 2))) == size
    assert len(Bag(torch.zeros(size, 1, 28, 28))) == size
    assert len(Bag({"a": torch.zeros(size, 2), "b": torch.zeros(size, 7)})) == size


def test_everything_but_x_is_optional():
    bag = Bag(X)
    assert (bag.y, bag.adj, bag.coords, bag.y_inst, bag.bag_id) == (None, None, None, None, "")
    assert bag.covariates is None


def test_a_whole_bag():
    bag = Bag(
        {"a": X, "b": torch.zeros(3, 7)},
        y=torch.tensor([0, 1]),
        adj=ADJ,
        coords=torch.zeros(3, 3),
        y_inst=torch.tensor([0, 1, -1]),
        bag_id="s",
        covariates=torch.zeros(4),
    )
    assert len(bag) == 3
    with pytest.raises(FrozenInstanceError):
        bag.y = 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"x": {}}, "at least one stream in x, got none"),
        ({"x": torch.zeros(3)}, r"x of shape \(N, ...\), got \(3,\)"),
        ({"x": torch.tensor(1.0)}, r"x of shape \(N, ...\), got \(\)"),
        ({"x": {"a": torch.zeros(3)}}, r"a of shape \(N, ...\), got \(3,\)"),
        ({"x": {"a": X, "b": X[:2]}}, "b with 3 rows, one per instance, got 2"),
        ({"y_inst": torch.zeros(2)}, "y_inst with 3 rows, one per instance, got 2"),
        ({"y_inst": torch.zeros(3, 1)}, r"y_inst of shape \(N,\), got \(3, 1\)"),
        ({"coords": torch.zeros(4, 2)}, "coords with 3 rows, one per instance, got 4"),
        ({"coords": torch.zeros(3)}, r"coords of shape \(N, 2\) or \(N, 3\), got \(3,\)"),
        ({"coords": torch.zeros(3, 4)}, r"\(N, 3\), got \(3, 4\)"),
        ({"coords": torch.tensor(3)}, r"\(N, 3\), got \(\)"),
        ({"covariates": torch.zeros(1, 4)}, r"covariates of shape \(C,\), got \(1, 4\)"),
        ({"covariates": torch.tensor(1.0)}, r"covariates of shape \(C,\), got \(\)"),
        ({"adj": ADJ.to_dense()}, r"sparse CSR of shape \(3, 3\), got torch.strided of shape"),
        ({"adj": torch.eye(3).to_sparse_coo()}, "sparse CSR .* got torch.sparse_coo"),
        ({"adj": torch.eye(2).to_sparse_csr()}, r"shape \(3, 3\), got .* of shape \(2, 2\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(parts, message):
    with pytest.raises(ValueError, match=f"^bag 'slide 7': expected {'.*'}{message}"):
        Bag(**{"x": X, "bag_id": "slide 7"} | parts)


def test_the_shape_of_an_instance():
    assert Bag(torch.zeros(3, 2)).instance_shape == (2,)
    assert Bag(torch.zeros(0, 1, 28, 28)).instance_shape == (1, 28, 28)
    streams = Bag({"b": torch.zeros(3, 2), "a": torch.zeros(3, 7)})
    assert streams.instance_shape == {"b": (2,), "a": (7,)}


def test_content_is_what_the_bag_holds_and_not_what_is_said_of_it():
    """A fingerprint of the data is made of it."""
    (content,) = Bag(X, y=1, bag_id="a", coords=torch.zeros(3, 2)).content()
    assert content is X
    streams = {"b": X, "a": torch.zeros(3, 7)}
    assert [id(each) for each in Bag(streams).content()] == [id(each) for each in streams.values()]
