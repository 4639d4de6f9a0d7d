"""What a folder of bags holds, and all that is wrong with it."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data.faults import BagError, Fault, list_faults
from milforge.data.features.cache import CachedReader
from milforge.data.features.check_finite import check_finite
from milforge.data.features.known_bags import Facts, KnownBags, stored_header
from milforge.data.features.label_table import LabelTable
from milforge.data.features.readers import BagHeader, BagReader
from milforge.data.features.same_bags import digest, ends_of, same_bags
from milforge.data.parts import is_text
from milforge.graph import grid_stride

Progress = Callable[[int, int], None]

_STRIDES_FROM = 8  # bags whose coords are read to find the stride
_MOST_THREADS = 8
_COORDS_OF_ALL = "write the coords of all bags, or read all without by data.coords_key=null"


@dataclass(frozen=True, eq=False)
class Inspection:
    """What an inspection found.

    Args:
        reader: the bags.
        headers: what the files say of each bag that can be opened, by its name, sorted.
        labels: the labels, None where the bags are only to be predicted.
        faults: all that is wrong, the bags in order.
        deep: whether all features were read.
        same: groups of bags that hold the same features; see `same_bags`.
    """

    reader: BagReader
    headers: Mapping[str, BagHeader]
    labels: LabelTable | None
    faults: tuple[Fault, ...]
    deep: bool
    same: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def stride(self) -> float | None:
        """Distance of neighbouring tiles in the unit of the coords, the median of a few bags.

        None without coords.
        """
        return _stride(self.reader, self.headers)

    @property
    def faulty_ids(self) -> tuple[str, ...]:
        """The bags that have a fault, in order, whether there are files of them or not."""
        return tuple(sorted({fault.bag_id for fault in self.faults if fault.bag_id}))

    @property
    def usable_ids(self) -> tuple[str, ...]:
        """The bags without a fault, in order: with labels given, all of them have one."""
        faulty = set(self.faulty_ids)
        return tuple(bag_id for bag_id in self.headers if bag_id not in faulty)

    def sizes(self) -> NDArray[np.int64]:
        """`(n,)` number of instances of each bag in `headers`."""
        return np.array([header.instances for header in self.headers.values()], dtype=np.int64)

    def raise_if_faulty(self) -> None:
        """Raises one error that tells the first 20 faults, and the number of the rest.

        Raises:
            BagError: where there are any.
        """
        if self.faults:
            raise BagError(list_faults(str(self.reader.root), self.faults), self.faults)


def inspect_folder(
    reader: BagReader,
    labels: LabelTable | None = None,
    *,
    deep: bool = False,
    progress: Progress | None = None,
    known: KnownBags | None = None,
    soon: int = 0,
) -> Inspection:
    """Looks at every bag, and finds all that is wrong at once.

    Found from what files say of themselves: files that are missing, unreadable, truncated or hold
    code; missing keys; empty bags; coords, instance labels or streams of another length; bags whose
    width, dtype or coords differ from those of most; two files of one bag; labels without a file,
    files without a label, and the faults of the label table. With `deep`, which reads everything,
    also NaN and infinity, instance labels that are not understood, and coords of streams that
    differ. Bags that hold the same features are no fault, and are named.

    Args:
        reader: the bags.
        labels: their labels, read with `strict=False` to have its faults here too.
        deep: whether to read all features.
        progress: is called with the number of bags done and that of all, from this thread.
        known: what is known of the files, which are not looked at again for it; takes up what is
            found. None: nothing.
        soon: bags of at most so many bytes are read while their files are open, because all are to
            be read next. What is wrong in them is left to that.

    Returns:
        What was found.
    """
    known = KnownBags(reader) if known is None else known

    def look(bag_id: str) -> tuple[BagHeader | None, tuple[Fault, ...]]:
        header = None
        try:
            state = reader.state(bag_id)
            header = known.header(bag_id, state)
            facts = Facts()
            if header is None:
                header = reader.header(bag_id, soon=soon)
                facts["header"] = stored_header(header)
            if not known.of(state).get("sound"):
                if deep:
                    check_finite(reader.read(bag_id), reader)
                    facts["sound"] = True
                elif header.nbytes <= soon:
                    facts |= _facts_of(reader, header)
            if facts:
                known.learn(bag_id, state, facts)
            if not is_text(bag_id):
                file = next(iter(header.files.values()))
                what = "expected a name in UTF-8, which files of results have, got another"
                return header, (Fault(bag_id, file, what, "rename the file"),)
        except BagError as error:
            return header, error.faults
        return header, ()

    faults: list[Fault] = []
    headers: dict[str, BagHeader] = {}
    # Files are waited for more than computed on.
    with ThreadPoolExecutor(min(_MOST_THREADS, 2 * (os.cpu_count() or 1))) as pool:
        for done, (header, found) in enumerate(pool.map(look, reader.ids), 1):
            faults += found
            if header is not None:
                headers[header.bag_id] = header
            if progress is not None:
                progress(done, len(reader.ids))
    faults += [*_odd_ones(reader, headers), *_unmatched(reader, labels)]
    faults += () if labels is None else labels.faults
    return Inspection(
        reader=reader,
        headers=headers,
        labels=labels,
        faults=tuple(sorted(faults, key=lambda fault: fault.bag_id)),
        deep=deep,
        # A bag of which two rows are looked at is not worth a copy.
        same=same_bags(
            reader.reader if isinstance(reader, CachedReader) else reader, headers, known
        ),
    )


def _facts_of(reader: BagReader, header: BagHeader) -> Facts:
    """What is found of a bag by reading it; nothing where it is faulty."""
    try:
        bag = reader.read(header.bag_id)
        check_finite(bag, reader)
    except BagError:
        return {}
    return {"sound": True, "ends": digest(bag, ends_of(header.instances)), "whole": digest(bag)}


def _odd_ones(reader: BagReader, headers: Mapping[str, BagHeader]) -> list[Fault]:
    """Bags that cannot stand in a batch with most others."""
    faults: list[Fault] = []

    def compare(
        values: Mapping[str, Any], say: Callable[[Any], str], stream: str, remedy: str
    ) -> None:
        if len(set(values.values())) < 2:
            return
        common, count = Counter(values.values()).most_common(1)[0]
        which = f"stream {stream}: " if len(reader.streams) > 1 else ""
        message = f"{which}expected {say(common)} as in {count} bags, got "
        faults.extend(
            Fault(bag_id, headers[bag_id].files[stream], message + say(got), remedy)
            for bag_id, got in values.items()
            if got != common
        )

    for stream in reader.streams:
        widths = {bag_id: header.widths[stream] for bag_id, header in headers.items()}
        compare(widths, "{} features".format, stream, "extract the bag with the same encoder")
        # As they are read: see `StoredArray.read_features`.
        dtypes = {
            bag_id: "float16" if header.dtypes[stream] == "float16" else "float32"
            for bag_id, header in headers.items()
        }
        compare(dtypes, "the dtype {}".format, stream, "convert the features to the same dtype")
    axes = {bag_id: header.coords_axes for bag_id, header in headers.items()}
    compare(axes, _axes, reader.streams[0], _COORDS_OF_ALL)
    return faults


def _axes(axes: Any) -> str:
    return "no coords" if axes is None else f"coords with {axes} axes"


def _unmatched(reader: BagReader, labels: LabelTable | None) -> list[Fault]:
    """Labels without a file, and files without a label."""
    if labels is None:
        return []
    faulty = {fault.bag_id for fault in labels.faults}
    missing = sorted(set(labels.ids) - set(reader.ids))
    orphans = sorted(set(reader.ids) - set(labels.ids) - faulty)
    where = labels.source
    return [
        *(
            Fault(
                bag_id,
                where,
                f"expected a file of bag {bag_id!r} in {reader.root}, found none",
                "write its features, or remove the row",
            )
            for bag_id in missing
        ),
        *(
            Fault(
                bag_id,
                reader.root,
                f"expected a label of bag {bag_id!r} in {where}, found none",
                "add a row, or remove the file",
            )
            for bag_id in orphans
        ),
    ]


def _stride(reader: BagReader, headers: Mapping[str, BagHeader]) -> float | None:
    strides = []
    having = [key for key, header in headers.items() if header.coords_axes and header.instances > 1]
    for bag_id in having[:: max(1, len(having) // _STRIDES_FROM)][:_STRIDES_FROM]:
        try:
            coords = reader.coords(bag_id)
            assert coords is not None
            strides.append(grid_stride(coords))
        except ValueError:  # all at one place: no stride to be found
            continue
    return float(np.median(strides)) if strides else None
