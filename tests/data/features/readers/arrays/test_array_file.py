import os
import pickle
import socket
import warnings

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bag_folders import features, truncate, write_h5, write_npy, write_pt
from milforge.data.faults import BagError
from milforge.data.features.readers.arrays.array_file import open_arrays


def load(path, key="", rows=None):
    with open_arrays(path) as arrays:
        return arrays[key].read(rows)


@given(
    size=st.integers(1, 400),
    chunk=st.sampled_from([None, 1, 7, 100]),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_rows_are_those_of_the_whole_array(tmp_path_factory, size, chunk, share, seed):
    folder = tmp_path_factory.mktemp("rows")
    x = features(size, 3)
    rows = np.flatnonzero(np.random.default_rng(seed).random(size) < share)
    chunks = None if chunk is None else (min(chunk, size), 3)
    write_h5(folder / "a.h5", {"x": x}, chunks=chunks)
    write_npy(folder / "a.npy", x)
    write_npy(folder / "b.npy", np.asfortranarray(x))
    write_pt(folder / "a.pt", torch.from_numpy(x))
    for name, key in (("a.h5", "x"), ("a.npy", ""), ("b.npy", ""), ("a.pt", "")):
        got = load(folder / name, key, rows)
        np.testing.assert_array_equal(got.numpy(), x[rows], strict=True)
        assert got.is_contiguous()


@pytest.mark.parametrize("dtype", [">f4", ">i2", "<f8"])
def test_byte_orders(tmp_path, dtype):
    x = np.arange(6).reshape(3, 2).astype(dtype)
    write_h5(tmp_path / "a.h5", {"x": x})
    write_npy(tmp_path / "a.npy", x)
    for name, key in (("a.h5", "x"), ("a.npy", "")):
        for rows in (None, np.array([0, 2])):
            got = load(tmp_path / name, key, rows)
            assert got.tolist() == x[slice(None) if rows is None else rows].tolist()
            assert str(got.dtype) == f"torch.{x.dtype.name}"


def test_what_was_read_outlives_its_file_and_stays_as_it_was(tmp_path):
    x = features(50)
    for name, write in (("a.npy", write_npy), ("a.pt", write_pt)):
        values = x if name == "a.npy" else torch.from_numpy(x)
        path = write(tmp_path / name, values)
        whole, part = load(path), load(path, rows=np.array([1, 3]))
        with path.open("r+b") as file:  # where pages of the file were used, they would change
            file.seek(0)
            file.write(b"\xff" * path.stat().st_size)
        np.testing.assert_array_equal(whole.numpy(), x)
        np.testing.assert_array_equal(part.numpy(), x[[1, 3]])


def test_pt_before_pytorch_1_6(tmp_path):
    x = torch.randn(4, 3)
    path = write_pt(tmp_path / "a.pt", x, _use_new_zipfile_serialization=False)
    assert torch.equal(load(path), x)
    truncate(path)
    with pytest.raises(BagError, match=r"a\.pt: expected a whole \.pt file, got a truncated or"):
        load(path)


def test_pt_of_a_view_and_with_gradient(tmp_path):
    x = torch.randn(10, 3)
    view = write_pt(tmp_path / "a.pt", x[2:4])
    grad = write_pt(tmp_path / "b.pt", torch.nn.Parameter(x))
    assert torch.equal(load(view), x[2:4])
    assert not load(grad).requires_grad


class Innocent:
    """Would run a function of the system when unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


@pytest.mark.parametrize("new", [True, False])
def test_pt_with_code_is_not_run(tmp_path, new):
    path = tmp_path / "a.pt"
    torch.save({"features": Innocent()}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(
        BagError, match=r"a\.pt: expected tensors alone, got code \(\S*exec\), which was not run: "
    ):
        load(path)


def test_a_bare_pickle_is_not_run(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps(Innocent(), protocol=2))
    with pytest.raises(BagError, match=r"a\.pt: "):
        load(path)


def test_npy_of_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([Innocent()], dtype=object), allow_pickle=True)
    with pytest.raises(BagError, match=r"a\.npy: expected an array of numbers, got Python objects"):
        load(tmp_path / "a.npy")


def test_pt_of_something_else(tmp_path):
    for content, name in (([torch.zeros(2)], "list"), ({"x": 3}, "dict")):
        path = write_pt(tmp_path / "a.pt", content)
        with pytest.raises(BagError, match=rf"expected tensors alone, got {name}: .*torch\.save"):
            load(path)


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
@pytest.mark.parametrize("name", ["a.h5", "a.npy", "a.pt"])
def test_truncated(tmp_path, name, share):
    x = features(2000)
    path = {
        "a.h5": lambda path: write_h5(path, {"x": x}),
        "a.npy": lambda path: write_npy(path, x),
        "a.pt": lambda path: write_pt(path, torch.from_numpy(x)),
    }[name](tmp_path / name)
    truncate(path, share)
    what = "got a file of 0 bytes" if share == 0 else "got a truncated or damaged one"
    with pytest.raises(BagError, match=rf"^{path}: .*{what}.*: write") as caught:
        load(path, "x")
    (fault,) = caught.value.faults
    assert fault.file == path


def test_damage_inside_a_chunk(tmp_path):
    path = write_h5(tmp_path / "a.h5", {"x": features(500)}, compression="gzip", chunks=(500, 4))
    with h5py.File(path) as file:
        start = file["x"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * 64)
    with open_arrays(path) as arrays, pytest.raises(BagError, match=r"a\.h5: .*damaged"):
        arrays["x"].read()


@pytest.mark.parametrize("name", ["a.h5", "a.npy", "a.pt"])
def test_something_else_by_that_name_and_nothing_at_all(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(BagError, match=rf"^{path}: expected a file, found none"):
        load(path)
    path.write_text("nothing of the kind, but long enough to be read as a header " * 9)
    with pytest.raises(BagError, match=rf"^{path}: expected a whole \{path.suffix} file"):
        load(path)


@pytest.mark.parametrize("name", ["a.h5", "a.npy", "a.pt"])
def test_no_permission(tmp_path, name, monkeypatch):
    """The superuser may read anything, so the system's refusal is put in its mouth."""
    path = tmp_path / name
    path.write_bytes(b"x" * 100)
    path.chmod(0)

    def refuse(self, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(BagError, match=rf"^{path}: .*got no permission: .*chmod u\+r {name}"):
        load(path)


def test_an_error_keeps_its_faults_on_the_way_between_processes(tmp_path):
    with pytest.raises(BagError) as caught:
        load(tmp_path / "none.h5")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.faults) == (str(caught.value), caught.value.faults)


@pytest.mark.parametrize("name", ["a.h5", "a.npy", "a.pt", "old.pt"])
def test_bytes_that_are_wrong_are_an_error_of_the_file_or_none(tmp_path, name):
    """Whatever a library raises, the file is named; 150 files with up to 5 wrong bytes."""
    path, x = tmp_path / name, features(40)
    {
        "a.h5": lambda: write_h5(path, {"x": x, "y": x}, compression="gzip", chunks=True),
        "a.npy": lambda: write_npy(path, x),
        "a.pt": lambda: write_pt(path, torch.from_numpy(x)),
        "old.pt": lambda: write_pt(path, torch.from_numpy(x), _use_new_zipfile_serialization=False),
    }[name]()
    whole, rng, failures = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            damaged[rng.integers(min(len(whole), 400))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings(), open_arrays(path) as arrays:
                warnings.simplefilter("ignore")
                for key in arrays:
                    arrays[key].read()
        except BagError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            failures += 1
    assert failures > 50


@pytest.fixture
def secret(tmp_path):
    """A file of 60 rows that is none of the bag's."""
    path = tmp_path / "secret.bin"
    path.write_bytes(b"PRIVATE!" * 60)
    write_h5(tmp_path / "other.h5", {"x": features(60, 2), "deep/x": features(60, 2)})
    return path


def external_storage(file, path):
    file.create_dataset("x", (60, 2), "u1", external=[(str(path), 0, 120)])


def external_link(file, path):
    file["x"] = h5py.ExternalLink(str(path.with_name("other.h5")), "x")


def link_to_a_link(file, path):
    file["far"] = h5py.ExternalLink(str(path.with_name("other.h5")), "deep")
    file["x"] = h5py.SoftLink("/far/x")


def virtual(file, path):
    layout = h5py.VirtualLayout((60, 2), "f4")
    layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "x", (60, 2))
    file.create_virtual_dataset("x", layout)


def endless(file, path):
    file["x"] = h5py.SoftLink("/x")


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (external_storage, "external storage"),
        (external_link, "an external link"),
        (link_to_a_link, "an external link"),
        (virtual, "a virtual dataset"),
        (endless, "a chain of more than 32 links"),
    ],
)
def test_a_file_reads_no_other_file(tmp_path, secret, write, what):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        write(file, secret)
    for key in ("x", "/x", "./x", "x/"):
        with open_arrays(path) as arrays, pytest.raises(BagError) as caught:
            arrays[key.removeprefix("./")]
        assert str(caught.value).startswith(f"{path}: expected {key.removeprefix('./')!r} in the")
        assert what in str(caught.value)


def test_links_within_a_file_are_followed(tmp_path):
    x = features(5, 2)
    path = write_h5(tmp_path / "a.h5", {"deep/x": x})
    with h5py.File(path, "a") as file:
        file["y"] = h5py.SoftLink("/deep/x")
        file["group"] = h5py.SoftLink("deep")
        file["deep/z"] = h5py.SoftLink("x")
        file["nothing"] = h5py.SoftLink("/gone")
    for key in ("deep/x", "y", "group/x", "deep/z", "/y"):
        np.testing.assert_array_equal(load(path, key).numpy(), x)
    with open_arrays(path) as arrays:
        for key in ("nothing", "deep", "deep/x/more", "gone", "", "/"):
            assert arrays.get(key) is None


@pytest.mark.parametrize("suffix", [".h5", ".npy", ".pt"])
def test_a_pipe_is_not_opened(tmp_path, suffix):
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    with pytest.raises(BagError, match="expected a file, got a pipe: remove it"):
        load(pipe)
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(BagError, match="expected a file, got a folder"):
        load(tmp_path / f"folder{suffix}")
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    with pytest.raises(BagError, match="expected a file, got a device"):
        load(tmp_path / f"device{suffix}")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(str(tmp_path / f"s{suffix}"))
        with pytest.raises(BagError, match="expected a file, got a socket"):
            load(tmp_path / f"s{suffix}")
