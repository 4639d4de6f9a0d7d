"""What is known of the files of bags, from this run and from earlier ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch

from milforge.data.content_cache import content_key
from milforge.data.features.readers import BagHeader, BagReader
from milforge.data.user_cache import put_in_user_cache, user_cache

_FORMAT = 2  # to be counted up where another thing is found of the same files, or checked in them
_ENTRY = "json"


class Facts(TypedDict, total=False):
    """What was found of the files of a bag.

    Attributes:
        header: the bag's, without what the reader knows by itself.
        sound: it was read, and nothing was wrong with it.
        ends: a digest of the first and last instance.
        whole: a digest of all instances.
    """

    header: list[Any]
    sound: bool
    ends: str
    whole: str


class KnownBags:
    """What was found of the files of each bag, as long as these are the same.

    It is known by the state of the files (`BagReader.state`: their paths, sizes and times), so a
    file that was changed, or replaced by another, is looked at again; and it holds no name of a
    bag. It is believed before training alone: what is read in training is checked there too.

    Args:
        reader: the bags.
        kept: stands for all options of the reader: what earlier runs with the same have kept is
            known, and what is found is kept for later ones, in one file of the user's cache. That
            may be missing, damaged or impossible to write. None: nothing is kept.
    """

    def __init__(self, reader: BagReader, *, kept: str | None = None) -> None:
        self.reader = reader
        root = str(Path(reader.root).absolute())
        self._file = None if kept is None else content_key("known bags", _FORMAT, root, kept)
        self._facts = self._load()
        self._news: dict[str, Facts] = {}

    def of(self, state: str | None) -> Facts:
        """What is known of a bag whose files are in that state; it may be nothing."""
        if state is None:
            return {}
        return {**self._facts.get(state, {}), **self._news.get(state, {})}

    def learn(self, bag_id: str, state: str | None, facts: Facts) -> None:
        """Takes up what was found of a bag.

        Args:
            bag_id: its name.
            state: of its files, before they were looked at. What was found while they changed is
                not kept.
            facts: what was found.
        """
        if state is not None and self.reader.state(bag_id) == state:
            self._news[state] = {**self._news.get(state, {}), **facts}

    def header(self, bag_id: str, state: str | None) -> BagHeader | None:
        """The header of a bag, where it is known."""
        stored = self.of(state).get("header")
        if stored is None:
            return None
        instances, widths, dtypes, axes, unit, tile_size, labels = stored
        return BagHeader(
            bag_id=bag_id,
            instances=instances,
            widths=dict(zip(self.reader.streams, widths, strict=True)),
            dtypes=dict(zip(self.reader.streams, dtypes, strict=True)),
            files=self.reader.files(bag_id),
            coords_axes=axes,
            coords_unit=unit,
            tile_size=tile_size,
            has_instance_labels=labels,
        )

    def save(self) -> None:
        """Keeps what was found for later runs, where there is anything new."""
        if self._file is None or not self._news:
            return
        # Another run may have found something meanwhile.
        self._facts = _merged(self._load(), _merged(self._facts, self._news))
        self._news = {}
        states = {self.reader.state(bag_id) for bag_id in self.reader.ids}
        current = {state: each for state, each in self._facts.items() if state in states}
        text = torch.frombuffer(bytearray(json.dumps(current).encode()), dtype=torch.uint8)
        put_in_user_cache(self._file, {_ENTRY: text})

    def _load(self) -> dict[str, Facts]:
        cache = None if self._file is None else user_cache()
        found = None if cache is None or self._file is None else cache.find(self._file)
        if found is None or _ENTRY not in found:
            return {}
        known: dict[str, Facts] = json.loads(found[_ENTRY].numpy().tobytes())
        return known


def stored_header(header: BagHeader) -> list[Any]:
    """A header as plain data; see `KnownBags.header`."""
    return [
        header.instances,
        list(header.widths.values()),
        list(header.dtypes.values()),
        header.coords_axes,
        header.coords_unit,
        header.tile_size,
        header.has_instance_labels,
    ]


def _merged(one: Mapping[str, Facts], other: Mapping[str, Facts]) -> dict[str, Facts]:
    merged = dict(one)
    for state, facts in other.items():
        merged[state] = {**merged.get(state, {}), **facts}
    return merged
