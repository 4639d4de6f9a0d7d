"""Every model in configs/model that looks at bags, a fork's own included, and bags for it."""

from copy import deepcopy
from functools import cache

import torch
from torch import nn

from every_task import make_task
from milforge.api.bag_models import takes_bags
from milforge.api.build import build_network
from milforge.data import Bag
from milforge.graph import build_adjacency
from test_configs import CONFIGS, compose_config, options

WIDTH = 6
SIZES = (9, 1, 2, 3, 7, 8, 17, 33)  # around the k of the models


@cache
def config_of(model):
    """The config of a run with it, small."""
    config = compose_config("train", f"model={model}")
    if "hidden" in config.model.get("encoder", {}):
        config.model.encoder.hidden = [16]  # the laws hold of any width
    if "aem" in config.model:
        config.model.aem = 0.1  # and with the term that it adds to the loss
    return config


MODELS = [model for model in options("model") if takes_bags(model, [CONFIGS])]


@cache
def built(model, num_outputs):
    torch.manual_seed(0)
    network = build_network(config_of(model), (WIDTH,), num_outputs, 0)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # it draws otherwise in another batch
    return network.double()


def make_network(model, num_outputs=1):
    """A network of its own, of double precision, without dropout."""
    return deepcopy(built(model, num_outputs))


def make_bags(sizes=SIZES, dtype=torch.float64, kind="binary"):
    """Bags with a graph, and labels of a kind of task."""
    generator = torch.Generator().manual_seed(1)
    bags = []
    _, labels = make_task(kind)
    for b, size in enumerate(sizes):
        x = torch.randn(size, WIDTH, generator=generator, dtype=torch.float64)
        coords = torch.stack([torch.arange(size) % 5, torch.arange(size) // 5], 1).float()
        adj = build_adjacency(coords, method="radius", radius=1.5)
        adj = torch.sparse_csr_tensor(
            adj.crow_indices(), adj.col_indices(), adj.values().to(dtype), adj.shape
        )
        bags.append(Bag(x.to(dtype), labels[b], adj, coords, bag_id=str(b)))
    return bags
