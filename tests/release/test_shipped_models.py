"""What holds of the models that MilForge ships; one of a fork may be made for its own data."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from milforge.api.build import build_network
from milforge.data import Bag, collate_bags
from milforge.graph import build_adjacency
from test_configs import compose_config, options

MODELS = [model for model in options("model") if model != "attention_sampling"]


@cache
def config_of(model):
    return compose_config("train", f"model={model}")


def make_batch():
    """Vectors of 28 x 28 numbers, in two bags with a graph."""
    generator = torch.Generator().manual_seed(0)
    bags = []
    for size in (3, 5):
        coords = torch.arange(size).float()[:, None].repeat(1, 2)
        adj = build_adjacency(coords, method="radius", radius=2)
        bags.append(Bag(torch.randn(size, 784, generator=generator), None, adj, coords))
    return collate_bags(bags)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_goes_with_images_and_with_several_streams(model):
    config, batch = config_of(model), make_batch()
    network = build_network(config, (1, 28, 28), 3, 0).eval()
    assert network(replace(batch, x=batch.x.reshape(-1, 1, 28, 28))).logits.shape == (2, 3)
    network = build_network(config, {"a": (784,), "b": (784,)}, 3, 0).eval()
    output = network(replace(batch, x={"a": batch.x, "b": batch.x.flip(0)}))
    assert output.logits.isfinite().all()


@pytest.mark.parametrize("model", MODELS)
def test_what_attends_may_be_kept_from_collapsing(model):
    config = config_of(model)
    network = build_network(config, (784,), 3, 0).eval()
    attends = network(make_batch()).scores is not None
    assert attends == ("aem" in config.model)
