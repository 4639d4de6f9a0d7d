"""Files that are whole or not there; a full disk and a folder that is not to be written to."""

import errno
import os

import pytest
import torch

from milforge.data.content_cache import ContentCache
from milforge.data.files import atomic_path, read_json


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
