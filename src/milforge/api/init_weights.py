"""A network that begins with the weights of another run."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from milforge.training import MILModule

logger = logging.getLogger(__name__)


def begin_from(module: MILModule, stored: Mapping[str, Any], path: str) -> None:
    """Gives the network those weights of a checkpoint that fit, and says which.

    Args:
        module: whose network begins with them.
        stored: the weights of the checkpoint.
        path: of the checkpoint, for messages.

    Raises:
        ValueError: where no weight fits.
    """
    mine = module.network.state_dict()
    given = {
        name.removeprefix("network."): value
        for name, value in stored.items()
        if name.startswith("network.")
    }
    fitting = {
        name: value
        for name, value in given.items()
        if name in mine and mine[name].shape == value.shape
    }
    if not fitting:
        raise ValueError(
            f"init_from: no weight of {path} fits the network: it has {_listed(given)}, the "
            f"network {_listed(mine)}"
        )
    module.network.load_state_dict(fitting, strict=False)
    left = [name for name in mine if name not in fitting]
    logger.info("init_from: %d of %d weights taken from %s", len(fitting), len(mine), path)
    if left:
        logger.info("init_from: not taken, so begun anew: %s", _listed(left))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
