"""Maps with known numbers."""

import numpy as np

from milforge.maps.tiles import TileMap


def make_map(name="slide", n=12, side=448.0, columns=4, **options):
    """Tiles in rows, from (896, 448) on; the first says most for the second class."""
    rng = np.random.default_rng(0)
    i = np.arange(n)
    corners = np.stack([896 + side * (i % columns), 448 + side * (i // columns)], 1)
    contributions = rng.normal(size=(n, 2)) * 0.1
    contributions[0] = [-0.75, 1.5]
    weights = rng.dirichlet(np.ones(n))
    found = {
        "outputs": ("no", "yes"),
        "classes": ("no", "yes"),
        "scores": np.log(weights),
        "weights": weights,
        "contributions": contributions,
        "offset": np.array([0.5, -0.5]),
        "logits": contributions.sum(0) + np.array([0.5, -0.5]),
        "probability": rng.dirichlet(np.ones(2), n),
        "shown": 1,
        "label": "yes",
        "predicted": "yes (0.900)",
    }
    if options.get("contributions", 0) is None:
        found["main"] = "attention"
    return TileMap(name, corners, side, **{**found, **options})
