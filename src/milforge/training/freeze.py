"""Parts of a network that are not trained."""

from collections.abc import Sequence

from torch import nn


def freeze_parts(network: nn.Module, parts: str | Sequence[str] | None) -> list[nn.Module]:
    """Has parts of a network take no gradient.

    Args:
        network: what they are parts of.
        parts: their names, such as `encoder` or `encoder.0`.

    Returns:
        The parts.

    Raises:
        ValueError: where the network has no such part, or nothing is left to be trained.
    """
    names = [parts] if isinstance(parts, str) else list(parts or ())
    known = [name for name, _ in network.named_children()]
    frozen = []
    for name in names:
        try:
            frozen.append(network.get_submodule(name).requires_grad_(False))
        except AttributeError as error:
            raise ValueError(
                f"freeze: the network has no part {name!r} (it has {', '.join(known)})"
            ) from error
    if names and not any(each.requires_grad for each in network.parameters()):
        raise ValueError(f"freeze: with {', '.join(names)} frozen, nothing is left to be trained")
    return frozen
