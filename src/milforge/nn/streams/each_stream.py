"""A module for each stream of features."""

from collections.abc import Mapping

from torch import Tensor, nn


class EachStream(nn.Module):
    """Holds a module for each stream and applies each to its own.

    The streams stand in the order of their names, not the order in which they are given, so
    that one that depends on their order means the same for every run.

    Args:
        modules: the module of each stream; names may be any text.

    Attributes:
        names: the names of the streams, sorted.

    Example:
        >>> import torch
        >>> each = EachStream({"uni": nn.Linear(4, 2), "conch_v1.5": nn.Linear(3, 2)})
        >>> out = each({"uni": torch.zeros(5, 4), "conch_v1.5": torch.zeros(5, 3)})
        >>> [(name, x.shape) for name, x in out.items()]
        [('conch_v1.5', torch.Size([5, 2])), ('uni', torch.Size([5, 2]))]
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = tuple(sorted(modules))
        for name in self.names:
            self.add_module(_key(name), modules[name])

    def __getitem__(self, name: str) -> nn.Module:
        return self.get_submodule(_key(name))

    def forward(self, streams: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each module makes of its stream, in the order of the names.

        Raises:
            ValueError: where there are other streams than modules.
        """
        if tuple(sorted(streams)) != self.names:
            raise ValueError(
                f"expected the streams {list(self.names)}, got {sorted(streams)}: read those by "
                "data.streams"
            )
        return {name: self[name](streams[name]) for name in self.names}


def _key(name: str) -> str:
    """The name as torch takes it: without dots, and unlike the attributes of a module.

    Example:
        >>> _key("conch_v1.5")
        'stream_conch_v1%2E5'
    """
    return "stream_" + name.replace("%", "%25").replace(".", "%2E")
