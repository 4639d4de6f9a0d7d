"""Which models are of bags."""

from collections.abc import Sequence
from pathlib import Path

from hydra.utils import get_class

from milforge.data import BagBatch
from milforge.runs.read_files import read_yaml


def takes_bags(model: str, folders: Sequence[str | Path]) -> bool:
    """Whether a model is one of bags; those of large images are for other data.

    One whose class is not found is: its runs say what is wrong with it, and the others go on.

    Args:
        model: name of a file in `model`.
        folders: of configs, the one that counts most first.
    """
    target = _target(model, folders)
    try:
        network = None if target is None else get_class(target)
    except Exception:  # whatever the import of a module of one's own raises
        return True
    return getattr(network, "batch_type", BagBatch) is BagBatch


def _target(model: str, folders: Sequence[str | Path]) -> str | None:
    """The class of a model, from its file or from that on which it builds; None: not known.

    The files are read as they are: to compose a config for each model takes half a minute.
    """
    files = [Path(folder) / "model" / f"{model}.yaml" for folder in folders]
    content = next((read_yaml(each) for each in files if each.is_file()), {})
    if "_target_" in content:
        return str(content["_target_"])
    builds_on = [each for each in content.get("defaults") or () if isinstance(each, str)]
    names = [each.removeprefix("/model/") for each in builds_on if each not in ("_self_", model)]
    return _target(names[0], folders) if names else None
