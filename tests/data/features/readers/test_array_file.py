import pickle
import warnings

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bag_folders import features, truncate, write_h5, write_npy, write_pt
from milforge.data.faults import BagError
from milforge.data.features.readers.array_file import open_arrays


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
