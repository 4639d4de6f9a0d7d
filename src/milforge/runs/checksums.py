"""Whether a checkpoint is what was written."""

import struct
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile


def check_sums(path: Path) -> None:
    """Checks a checkpoint's parts by the checksums in it, at which `torch.load` does not look.

    A bit that a disk has turned over makes other weights, and no error.

    Raises:
        ValueError: where a part is not what was written, or the file is none of `torch.save`.
        OSError: where it cannot be read.
    """
    try:
        with ZipFile(path) as parts:
            packed = [each for each in parts.infolist() if each.compress_type != ZIP_STORED]
            # `torch.save` packs nothing, and a small file could hold more than any disk does.
            damaged = packed[0].filename if packed else parts.testzip()
    except (BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise ValueError("it is no whole file of torch.save") from error
    if damaged is not None:
        raise ValueError(f"its part {damaged} is not what was written")
