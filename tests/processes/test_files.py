"""Files that are whole or not there; a full disk and a folder that is not to be written to."""

import errno
import os
from time import time

import pytest
import torch

from milforge.data import content_cache
from milforge.data.content_cache import ContentCache
from milforge.processes.file_lock import lock
from milforge.processes.files import atomic_path, read_json, remove_left_over


class Full:
    """A file on a full disk."""

    def write(self, _):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self):
        pass


def write_half(target):
    with atomic_path(target) as path:
        path.write_text("half")
        Full().write(b"")


def save(target, file):
    with atomic_path(target):
        torch.save({"x": torch.zeros(10)}, file)


def test_a_full_disk_names_the_file_and_leaves_what_was_there(tmp_path):
    target = tmp_path / "config.yaml"
    target.write_text("before")
    with pytest.raises(OSError, match="make room") as told:
        write_half(target)
    assert str(target) in str(told.value)
    assert "No space left on device" in str(told.value)
    assert target.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["config.yaml"]


def test_what_torch_makes_of_a_full_disk_names_the_file_too(tmp_path):
    with pytest.raises(OSError, match=r"a\.ckpt cannot be written \(No space left"):
        save(tmp_path / "a.ckpt", Full())


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_may_not_be_written_to_is_told(tmp_path, monkeypatch, number):
    def refuse(path, *arguments, **options):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(OSError, match="choose another folder"):
        write_half(tmp_path / "there" / "a.txt")


def test_errors_that_are_not_of_writing_stay_as_they_are(tmp_path):
    with pytest.raises(OSError, match="Input/output") as told, atomic_path(tmp_path / "a"):
        raise OSError(errno.EIO, "Input/output error")
    assert told.value.errno == errno.EIO
    with pytest.raises(KeyError), atomic_path(tmp_path / "a"):
        raise KeyError("ours")


def test_a_cache_on_a_full_disk_is_named_with_its_option(tmp_path, monkeypatch):
    def full(*_, **__):
        try:
            Full().write(b"")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904 (as torch does)

    cache = ContentCache(tmp_path, "data.cache")
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"as data\.cache, got: .*No space left.*data\.cache=null"):
        cache.get("0" * 32, lambda: {"x": torch.zeros(1)})


def test_a_copy_that_was_cut_off_is_made_again(tmp_path):
    cache = ContentCache(tmp_path, "data.cache")
    cache.get("0" * 32, lambda: {"x": torch.arange(5000)})
    (path,) = tmp_path.iterdir()
    for share in (0.9, 0.5, 0.0):
        os.truncate(path, int(path.stat().st_size * share))
        found = cache.get("0" * 32, lambda: {"x": torch.arange(5000)})
        assert torch.equal(found["x"], torch.arange(5000))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 10**5])
def test_json_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"^a\.json is damaged \("):
        read_json(tmp_path / "a.json")


def test_what_is_left_of_killed_processes_is_removed_and_nothing_else(tmp_path):
    with atomic_path(tmp_path / "whole.pt") as path:
        path.write_text("whole")

    def partial(name, hours):
        path = tmp_path / f".{name}.partial"
        path.write_text("half")
        os.utime(path, (time() - 3600 * hours,) * 2)
        return path

    left, fresh, written = partial("left", 2), partial("fresh", 0.5), partial("written", 2)
    # A lock is of one process: another one holds it.
    held, holds = os.pipe()
    done, ends = os.pipe()
    if not (child := os.fork()):
        with written.open("r+b") as file:
            lock(file)
            os.write(holds, b"1")
            os.read(done, 1)
        os._exit(0)
    os.read(held, 1)
    remove_left_over(tmp_path)
    os.write(ends, b"1")
    os.waitpid(child, 0)
    assert [each.exists() for each in (left, fresh, written)] == [False, True, True]
    remove_left_over(tmp_path)
    assert not written.exists()
    assert (tmp_path / "whole.pt").read_text() == "whole"


def test_a_cache_removes_what_is_left_and_locks_what_it_writes(tmp_path, monkeypatch):
    left = tmp_path / ".key.0123.partial"
    left.touch()
    os.utime(left, (0, 0))
    cache = ContentCache(tmp_path, "data.cache")
    assert not left.exists()
    locked = []
    monkeypatch.setattr(content_cache, "lock", lambda file: locked.append(file.name))
    cache.put("0" * 32, {"x": torch.zeros(2)})
    assert [name.endswith(".partial") for name in locked] == [True]
