"""Maps on disk, so that memory does not grow with their number."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from milforge.maps.tiles import TileMap


class MapStore:
    """Holds maps in a hidden folder that is gone after the `with` block, and gives them in order.

    One map at a time is in memory, however often it is iterated over.

    Args:
        folder: in which it lies; it is made where it is not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self._parent = Path(folder)
        self._count = 0

    def __enter__(self) -> Self:
        """Makes the folder."""
        self._parent.mkdir(parents=True, exist_ok=True)
        self._folder = TemporaryDirectory(dir=self._parent, prefix=".maps_")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Removes the folder."""
        self._folder.cleanup()

    def add(self, tiles: TileMap) -> None:
        """Takes a map.

        Raises:
            OSError: where the disk is full.
        """
        with self._path(self._count).open("wb") as file:
            pickle.dump(tiles, file, protocol=pickle.HIGHEST_PROTOCOL)
        self._count += 1

    def __len__(self) -> int:
        """Number of maps."""
        return self._count

    def __iter__(self) -> Iterator[TileMap]:
        """Reads the maps, one at a time."""
        for number in range(self._count):
            with self._path(number).open("rb") as file:
                tiles: TileMap = pickle.load(file)
            yield tiles

    def _path(self, number: int) -> Path:
        return Path(self._folder.name) / f"{number}.pickle"
