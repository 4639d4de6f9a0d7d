"""What later runs need not find out again."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from milforge.data.content_cache import ContentCache

_MOST_FILES = 1000  # of which those that were written first go


def user_cache() -> ContentCache | None:
    """Files of this user that may be lost: in `$XDG_CACHE_HOME/milforge`, else `~/.cache/milforge`.

    Returns:
        None where there is no such folder, and none can be made.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME")
        folder = Path(base) if base else Path.home() / ".cache"
        return ContentCache(folder / "milforge", "XDG_CACHE_HOME", checksums=True)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None


def put_in_user_cache(key: str, tensors: Mapping[str, Tensor]) -> None:
    """Keeps tensors for later runs where that can be done, and as many as there is room for."""
    cache = user_cache()
    if cache is None:
        return
    with suppress(OSError):
        cache.put(key, tensors)
        files = sorted(cache.folder.glob("*.pt"), key=lambda path: path.stat().st_mtime_ns)
        for path in files[:-_MOST_FILES]:
            path.unlink(missing_ok=True)


def remembered(key: str | None, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What an earlier run made of the same, or made now.

    Args:
        key: stands for all that it depends on; see `content_key`. None: that is not known.
        make: makes it.
    """
    cache = None if key is None else user_cache()
    found = None if cache is None or key is None else cache.find(key)
    if found is None:
        found = dict(make())
        if key is not None:
            put_in_user_cache(key, found)
    return found
