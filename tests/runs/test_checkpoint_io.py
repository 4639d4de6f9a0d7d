"""Checkpoints that are whole, and the one before."""

import os
import resource
import struct
import zipfile

import pytest
import torch

from milforge.runs.checkpoint_io import is_whole, last_whole
from milforge.runs.checksums import check_sums
from milforge.training import WholeCheckpointIO


def content(path):
    return torch.load(path, weights_only=True)["x"].item()


def test_the_one_before_is_kept(tmp_path):
    io = WholeCheckpointIO()
    for number in range(3):
        io.save_checkpoint({"x": torch.tensor(number)}, tmp_path / "last.ckpt")
        io.save_checkpoint({"x": torch.tensor(number)}, tmp_path / "best.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]
    assert content(tmp_path / "last.ckpt") == content(tmp_path / "best.ckpt") == 2
    assert content(tmp_path / "previous.ckpt") == 1
    assert last_whole(tmp_path) == (tmp_path / "last.ckpt", [])


@pytest.mark.parametrize("links", [True, False])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, links):
    io = WholeCheckpointIO()
    if not links:

        def refuse(*_):
            raise OSError("no links here")

        monkeypatch.setattr(os, "link", refuse)
    for number in range(2):
        io.save_checkpoint({"x": torch.tensor(number)}, tmp_path / "last.ckpt")

    def fill(_, path):
        path.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(OSError, match="no space left"):
        io.save_checkpoint({"x": torch.tensor(2)}, tmp_path / "last.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert content(tmp_path / "last.ckpt") == 1
    assert content(tmp_path / "previous.ckpt") == 0


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_one_is_recognised(tmp_path, share):
    io = WholeCheckpointIO()
    for number in range(2):
        io.save_checkpoint({"x": torch.full((500,), number)}, tmp_path / "last.ckpt")
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").unlink()
    (tmp_path / "last.ckpt").write_bytes(whole[: int(share * len(whole))])
    assert not is_whole(tmp_path / "last.ckpt")
    assert last_whole(tmp_path) == (tmp_path / "previous.ckpt", [tmp_path / "last.ckpt"])
    (tmp_path / "previous.ckpt").write_bytes(b"")
    assert last_whole(tmp_path) == (None, [tmp_path / "last.ckpt", tmp_path / "previous.ckpt"])


def test_a_folder_without_checkpoints(tmp_path):
    assert last_whole(tmp_path / "nowhere") == (None, [])


def test_a_full_disk_is_told_and_takes_nothing_away(tmp_path):
    """A limit on the size of files, which the system tells as it tells a full disk."""
    path = tmp_path / "last.ckpt"
    io = WholeCheckpointIO()
    io.save_checkpoint({"step": 1}, path)
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*last\.ckpt .*File too large.*run=NAME"):
            io.save_checkpoint({"weights": torch.zeros(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def flip(path, part="data/0"):
    """Turns over a bit of the weights."""
    with zipfile.ZipFile(path) as parts:
        (info,) = [each for each in parts.infolist() if each.filename.endswith(part)]
    content = bytearray(path.read_bytes())
    at = info.header_offset
    lengths = struct.unpack_from("<HH", content, at + 26)
    content[at + 30 + sum(lengths) + 7] ^= 0x04
    path.write_bytes(content)


def test_a_bit_that_was_turned_over_is_recognised(tmp_path):
    io = WholeCheckpointIO()
    for number in range(2):
        io.save_checkpoint({"x": torch.full((500,), number)}, tmp_path / "last.ckpt")
    flip(tmp_path / "last.ckpt")
    torch.load(tmp_path / "last.ckpt", weights_only=True)  # to which it is as good as any
    assert last_whole(tmp_path) == (tmp_path / "previous.ckpt", [tmp_path / "last.ckpt"])
    with pytest.raises(ValueError, match=r"its part .*/data/0 is not what was written"):
        check_sums(tmp_path / "last.ckpt")


def test_what_is_packed_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("bomb/data.pkl", bytes(10**6))
    assert not is_whole(path)
    with pytest.raises(ValueError, match=r"bomb/data\.pkl"):
        check_sums(path)
