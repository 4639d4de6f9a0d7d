"""One bag."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

ONE_STREAM = "x"  # the name of instances that have no other


def streams_of(x: Tensor | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The instances of a bag, or of a batch, by the name of their stream; one stream is `x`."""
    return {ONE_STREAM: x} if isinstance(x, Tensor) else x


@dataclass(frozen=True, eq=False)
class Bag:
    """A set of instances with one label.

    Args:
        x: `(N, ...)` instances, or a mapping from stream name to `(N, D_s)`, all of the same N.
        y: bag label: an integer (binary or class number), a number, or a `(C,)` tensor (0 and 1
            of each label, or several numbers). None when the bag is only to be predicted.
        adj: sparse CSR `(N, N)` adjacency of the instances.
        coords: `(N, 2)` or `(N, 3)` positions of the instances.
        y_inst: `(N,)` instance labels, 0 or 1, -1 where unknown.
        bag_id: name of the bag.
        covariates: `(C,)` float: what is known of the bag as a whole, beside its instances.
        slide: `(N,)` int64: which slide of a patient an instance is of, rising; None: all of one.

    Raises:
        ValueError: where the parts do not describe the same instances.

    Example:
        >>> bag = Bag(torch.zeros(3, 2), y=1, bag_id="slide 7")
        >>> len(bag)
        3
    """

    x: Tensor | Mapping[str, Tensor]
    y: float | Tensor | None = None
    adj: Tensor | None = None
    coords: Tensor | None = None
    y_inst: Tensor | None = None
    bag_id: str = ""
    covariates: Tensor | None = None
    slide: Tensor | None = None

    def __post_init__(self) -> None:
        named = streams_of(self.x)
        if not named:
            raise ValueError(f"bag {self.bag_id!r}: expected at least one stream in x, got none")
        for name, stream in named.items():
            if stream.ndim < 2:
                raise ValueError(
                    f"bag {self.bag_id!r}: expected {name} of shape (N, ...), "
                    f"got {tuple(stream.shape)}"
                )
            self._check_rows(name, stream)
        if self.y_inst is not None and self.y_inst.ndim != 1:
            raise ValueError(
                f"bag {self.bag_id!r}: expected y_inst of shape (N,), got "
                f"{tuple(self.y_inst.shape)}"
            )
        if self.coords is not None and (
            self.coords.ndim != 2 or self.coords.shape[1] not in (2, 3)
        ):
            raise ValueError(
                f"bag {self.bag_id!r}: expected coords of shape (N, 2) or (N, 3), got "
                f"{tuple(self.coords.shape)}"
            )
        if self.covariates is not None and self.covariates.ndim != 1:
            raise ValueError(
                f"bag {self.bag_id!r}: expected covariates of shape (C,), got "
                f"{tuple(self.covariates.shape)}"
            )
        if self.slide is not None and (self.slide.ndim != 1 or bool((self.slide.diff() < 0).any())):
            raise ValueError(
                f"bag {self.bag_id!r}: expected slide of shape (N,), the instances of a slide one "
                "below the other and their numbers rising, got others"
            )
        parts = {"y_inst": self.y_inst, "coords": self.coords, "slide": self.slide}
        for name, part in parts.items():
            if part is not None:
                self._check_rows(name, part)
        if self.adj is not None:
            self._check_adjacency(self.adj)

    def __len__(self) -> int:
        """Number of instances."""
        return len(self.x if isinstance(self.x, Tensor) else next(iter(self.x.values())))

    @property
    def instance_shape(self) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """Shape of one instance; of each stream, by its name, where there are several."""
        if isinstance(self.x, Tensor):
            return tuple(self.x.shape[1:])
        return {name: tuple(stream.shape[1:]) for name, stream in self.x.items()}

    def content(self) -> Iterator[Tensor]:
        """What distinguishes the bag from another: its instances."""
        yield from [self.x] if isinstance(self.x, Tensor) else self.x.values()

    def _check_rows(self, name: str, part: Tensor) -> None:
        if len(part) != len(self):
            raise ValueError(
                f"bag {self.bag_id!r}: expected {name} with {len(self)} rows, one per instance, "
                f"got {len(part)}"
            )

    def _check_adjacency(self, adj: Tensor) -> None:
        expected = (len(self), len(self))
        if adj.layout != torch.sparse_csr or tuple(adj.shape) != expected:
            raise ValueError(
                f"bag {self.bag_id!r}: expected adj as sparse CSR of shape {expected}, got "
                f"{adj.layout} of shape {tuple(adj.shape)}"
            )
