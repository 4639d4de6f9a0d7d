import h5py
import numpy as np
import pytest
import torch

from bag_folders import features, grid, plain_folder, write_h5, write_npy, write_pt
from milforge.data.faults import BagError
from milforge.data.features.inspection import inspect_folder
from milforge.data.features.readers import open_reader


def same(tensor, array):
    """Values and dtype alike, none converted."""
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), array, strict=True)


def test_clam_pt_with_the_coords_of_h5(tmp_path):
    x, coords = features(12), grid(12)
    write_pt(tmp_path / "pt_files/s1.pt", torch.from_numpy(x))
    # Other features than in the .pt: it must be seen which ones were read.
    write_h5(tmp_path / "h5_files/s1.h5", {"features": x + 1, "coords": coords})
    reader = open_reader(tmp_path)
    bag, header = reader.read("s1"), reader.header("s1")
    assert (reader.layout, reader.ids, reader.streams) == ("clam", ("s1",), ("x",))
    same(bag.x, x)
    same(bag.coords, coords.astype(np.float32))
    assert (bag.y, bag.y_inst, bag.bag_id) == (None, None, "s1")
    assert (header.instances, header.widths, header.dtypes) == (12, {"x": 4}, {"x": "float16"})
    assert (header.coords_axes, header.coords_unit, header.tile_size) == (2, "px", None)
    assert header.files == {"x": tmp_path / "pt_files/s1.pt"}
    assert not header.has_instance_labels


def test_clam_with_one_of_both(tmp_path):
    x = features(3, dtype=np.float32)
    write_pt(tmp_path / "pt_files/a.pt", torch.from_numpy(x))
    write_h5(tmp_path / "h5_files/b.h5", {"features": x, "coords": grid(3)}, chunks=True)
    reader = open_reader(tmp_path)
    assert reader.ids == ("a", "b")
    same(reader.read("a").x, x)
    assert reader.read("a").coords is None
    same(reader.read("b").x, x)
    same(reader.coords("b"), grid(3).astype(np.float32))


def test_clam_files_in_the_root_itself(tmp_path):
    write_pt(tmp_path / "s.pt", torch.from_numpy(features(3)))
    write_h5(tmp_path / "s.h5", {"features": features(3), "coords": grid(3)})
    bag = open_reader(tmp_path, "clam").read("s")
    assert bag.coords.shape == (3, 2)
    # Without being told, two files of one bag are a riddle.
    with pytest.raises(BagError, match=r"s\.h5: expected one file of bag 's', found .*s\.pt"):
        open_reader(tmp_path).read("s")


def trident(root, encoder, width, size=5, coords=None, name="s.svs"):
    coords = grid(size, 512) if coords is None else coords
    arrays = {"features": features(size, width, dtype=np.float32), "coords": coords}
    attributes = {"coords": {"patch_size": 256, "patch_size_level0": 512}}
    return write_h5(root / f"features_{encoder}" / f"{name}.h5", arrays, attributes)


def test_trident_of_one_encoder(tmp_path):
    trident(tmp_path, "uni_v1", 6)
    reader = open_reader(tmp_path)
    header = reader.header("s")
    assert (reader.layout, reader.ids, reader.streams) == ("trident", ("s",), ("uni_v1",))
    assert (header.coords_unit, header.tile_size, header.widths) == ("px", 512.0, {"uni_v1": 6})
    same(reader.read("s").x, features(5, 6, dtype=np.float32))


@pytest.mark.parametrize(
    "given", [None, ["conch", "uni"], {"conch": "conch", "uni": "features_uni"}]
)
def test_trident_of_several_encoders(tmp_path, given):
    inner = tmp_path / "20x_256px_0px_overlap"  # TRIDENT's own folder; its parent is given
    for encoder, width in (("uni", 6), ("conch", 3)):
        trident(inner, encoder, width)
    (inner / "patches").mkdir()
    reader = open_reader(
        tmp_path if given is None or isinstance(given, list) else inner, streams=given
    )
    bag = reader.read("s", np.array([1, 4]))
    assert reader.streams == ("conch", "uni")
    assert reader.header("s").widths == {"conch": 3, "uni": 6}
    assert list(bag.x) == ["conch", "uni"]
    same(bag.x["uni"], features(5, 6, dtype=np.float32)[[1, 4]])
    same(bag.coords, grid(5, 512).astype(np.float32)[[1, 4]])


def test_trident_one_of_several_encoders(tmp_path):
    for encoder in ("uni", "conch"):
        trident(tmp_path, encoder, 3)
    reader = open_reader(tmp_path, streams=["uni"])
    assert isinstance(reader.read("s").x, torch.Tensor)
    assert reader.header("s").files == {"uni": tmp_path / "features_uni/s.svs.h5"}


def test_trident_of_several_patch_sizes_must_be_chosen(tmp_path):
    for folder in ("10x", "20x"):
        trident(tmp_path / folder, "uni", 3)
    with pytest.raises(ValueError, match=r"one folder with features_<encoder>/, found 10x, 20x"):
        open_reader(tmp_path)


def torchmil(root, suffix):
    x, labels = features(6, dtype=np.float32), np.array([0, 1, -1, 0, 0, 1])
    arrays = {"features": x, "coords": grid(6, 1), "inst_labels": labels, "labels": np.array([1])}
    for folder, values in arrays.items():
        path = root / folder / f"bag1{suffix}"
        write_npy(path, values) if suffix == ".npy" else write_h5(path, {folder: values})
    return arrays


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_torchmil(tmp_path, suffix):
    arrays = torchmil(tmp_path, suffix)
    reader = open_reader(tmp_path)
    bag, header = reader.read("bag1"), reader.header("bag1")
    assert (reader.layout, reader.ids, reader.has_labels) == ("torchmil", ("bag1",), True)
    same(bag.x, arrays["features"])
    same(bag.coords, arrays["coords"].astype(np.float32))
    same(bag.y_inst, arrays["inst_labels"])
    assert reader.label("bag1") == "1"
    assert (header.coords_unit, header.has_instance_labels) == (None, True)
    part = reader.read("bag1", np.array([0, 2, 5]))
    same(part.x, arrays["features"][[0, 2, 5]])
    same(part.y_inst, arrays["inst_labels"][[0, 2, 5]])


def test_torchmil_of_two_encoders_shares_what_lies_beside(tmp_path):
    arrays = torchmil(tmp_path, ".npy")
    write_npy(tmp_path / "features_b/bag1.npy", features(6, 2))
    reader = open_reader(tmp_path, streams={"a": "features", "b": "features_b"})
    bag = reader.read("bag1")
    assert {name: x.shape[1] for name, x in bag.x.items()} == {"a": 4, "b": 2}
    same(bag.coords, arrays["coords"].astype(np.float32))
    same(bag.y_inst, arrays["inst_labels"])
    assert reader.label("bag1") == "1"


def test_torchmil_multilabel_and_damaged_label(tmp_path):
    torchmil(tmp_path, ".npy")
    write_npy(tmp_path / "labels/bag1.npy", np.array([1.0, 0.0, 1.0]))
    reader = open_reader(tmp_path)
    assert reader.label("bag1") == (1, 0, 1)
    write_npy(tmp_path / "labels/bag1.npy", np.array([1, 3]))
    with pytest.raises(BagError, match=r"labels/bag1\.npy: expected a label, or 0 and 1.*\[1, 3\]"):
        reader.label("bag1")


@pytest.mark.parametrize("folder", ["coords", "labels", "inst_labels"])
def test_torchmil_with_two_files_of_one_name_is_a_riddle(tmp_path, folder):
    torchmil(tmp_path, ".npy")
    write_h5(tmp_path / folder / "bag1.h5", {folder: np.zeros((6, 2))})
    reader = open_reader(tmp_path)
    riddle = rf"{folder}/bag1\.h5: expected one file of bag 'bag1', found .*{folder}/bag1\.npy too"
    with pytest.raises(BagError, match=riddle) as caught:
        reader.read("bag1")
    assert [fault.bag_id for fault in caught.value.faults] == ["bag1"]
    assert reader.state("bag1") is None  # what is remembered of the bag says nothing of it now
    if folder == "labels":
        with pytest.raises(BagError, match=riddle):
            reader.label("bag1")


def test_stamp(tmp_path):
    arrays = {"feats": features(5), "coords": grid(5).astype(np.float64) * 1.5}
    attributes = {"": {"unit": "um", "tile_size_um": 256.0, "tile_size_px": 224}}
    write_h5(tmp_path / "uuid-1/slide.h5", arrays, attributes)
    reader = open_reader(tmp_path)
    header = reader.header("uuid-1/slide")
    assert (reader.layout, reader.ids) == ("stamp", ("uuid-1/slide",))
    assert (header.coords_unit, header.tile_size) == ("um", 256.0)
    same(reader.read("uuid-1/slide").x, arrays["feats"])
    same(reader.coords("uuid-1/slide"), arrays["coords"].astype(np.float32))


def test_stamp_files_of_either_suffix(tmp_path):
    for name in ("a.h5", "u/b.hdf5", "c.H5", ".hidden.h5"):
        write_h5(tmp_path / name, {"feats": features(5)})
    assert open_reader(tmp_path).ids == ("a", "c", "u/b")


def test_stamp_is_known_by_a_file_that_is_whole(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"")
    write_h5(tmp_path / "b.h5", {"feats": features(5), "coords": grid(5)})
    reader = open_reader(tmp_path)
    assert reader.layout == "stamp"
    assert reader.header("b").coords_unit == "um"


def test_plain_files_of_every_kind(tmp_path):
    x = features(3)
    write_h5(tmp_path / "a.h5", {"features": x})
    write_npy(tmp_path / "b.npy", x)
    write_pt(tmp_path / "c.pt", torch.from_numpy(x))
    tensors = {"features": torch.from_numpy(x), "coords": torch.from_numpy(grid(3))}
    write_pt(tmp_path / "d.pt", tensors)
    (tmp_path / "labels.csv").write_text("slide_id,label\n")
    (tmp_path / ".hidden.h5").write_text("")
    reader = open_reader(tmp_path)
    assert (reader.layout, reader.ids) == ("plain", ("a", "b", "c", "d"))
    for bag_id in reader.ids:
        same(reader.read(bag_id).x, x)
    same(reader.read("d").coords, grid(3).astype(np.float32))


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.uint16, torch.float8_e4m3fn],
)
def test_features_of_any_number_are_read_as_float32(tmp_path, dtype):
    x = torch.tensor([[0.0, 1.5], [2.0, 40.0], [7.0, 3.0], [1.0, 1.0]]).to(dtype)
    write_pt(tmp_path / "a.pt", x)
    numpy_too = dtype not in (torch.bfloat16, torch.float8_e4m3fn)
    if numpy_too:
        write_npy(tmp_path / "b.npy", x.numpy())
        write_h5(tmp_path / "c.h5", {"features": x.numpy()})
    reader = open_reader(tmp_path)
    assert reader.header("a").dtypes == {"x": str(dtype).removeprefix("torch.")}
    for bag_id in reader.ids:
        same(reader.read(bag_id).x, x.to(torch.float32).numpy())
        same(reader.read(bag_id, np.array([1, 3])).x, x.to(torch.float32)[[1, 3]].numpy())
    assert len(reader.ids) == (3 if numpy_too else 1)
    assert inspect_folder(reader, deep=True).faults == ()


def test_float64_that_float32_cannot_hold_is_a_fault(tmp_path):
    write_npy(tmp_path / "a.npy", np.array([[1.0], [1e300]]))
    (fault,) = inspect_folder(open_reader(tmp_path), deep=True).faults
    assert "a.npy: expected finite features, got inf in row 1" in str(fault)


def test_bags_that_are_read_alike_may_be_stored_in_several_ways(tmp_path):
    for number, dtype in enumerate((np.float32, np.float64, np.int32, np.float16)):
        write_npy(tmp_path / f"{number}.npy", features(3).astype(dtype))
    (fault,) = inspect_folder(open_reader(tmp_path)).faults
    assert "3.npy: expected the dtype float32 as in 3 bags, got the dtype float16" in str(fault)


@pytest.mark.parametrize("rows", [None, np.array([0, 4])])
@pytest.mark.parametrize("axis", [0, 1])
def test_an_axis_of_one_is_dropped(tmp_path, axis, rows):
    x, coords = features(5), grid(5)
    arrays = {"features": np.expand_dims(x, axis), "coords": np.expand_dims(coords, axis)}
    write_h5(tmp_path / "a.h5", arrays)
    write_pt(tmp_path / "b.pt", torch.from_numpy(arrays["features"]))
    write_npy(tmp_path / "c.npy", arrays["features"])
    reader = open_reader(tmp_path)
    chosen = slice(None) if rows is None else rows
    for bag_id in "abc":
        same(reader.read(bag_id, rows).x, x[chosen])
        assert (reader.header(bag_id).instances, reader.header(bag_id).widths) == (5, {"x": 4})
    same(reader.read("a", rows).coords, coords[chosen].astype(np.float32))
    assert reader.header("a").coords_axes == 2


@pytest.mark.parametrize("coords", [np.zeros((3, 4)), np.zeros((2, 2)), np.array([b"a"] * 6)])
def test_coords_that_are_none_need_not_be_read(tmp_path, coords):
    write_h5(tmp_path / "a.h5", {"features": features(3), "coords": coords})
    (fault,) = inspect_folder(open_reader(tmp_path)).faults
    assert fault.remedy.endswith("read all without coords by data.coords_key=null")
    reader = open_reader(tmp_path, coords_key=None)
    assert inspect_folder(reader).faults == ()
    assert reader.read("a").coords is None


def test_coords_in_three_axes(tmp_path):
    coords = np.arange(9.0).reshape(3, 3)
    write_h5(tmp_path / "a.h5", {"features": features(3), "coords": coords})
    reader = open_reader(tmp_path)
    assert reader.header("a").coords_axes == 3
    same(reader.read("a").coords, coords.astype(np.float32))


def test_keys_by_config(tmp_path):
    arrays = {"deep/x": features(3), "xy": grid(3), "tumour": np.array([0, 1, -1])}
    write_h5(tmp_path / "a.h5", arrays)
    keys = {"features_key": "deep/x", "coords_key": "xy", "inst_label_key": "tumour"}
    bag = open_reader(tmp_path, **keys).read("a")
    same(bag.x, arrays["deep/x"])
    same(bag.coords, grid(3).astype(np.float32))
    same(bag.y_inst, arrays["tumour"])
    with pytest.raises(
        BagError,
        match=r"a\.h5: expected the key features or feats, got the keys deep/x, tumour, xy: .*"
        r"data\.features_key",
    ):
        open_reader(tmp_path).header("a")


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        ([0, 1, -1], None, [0, 1, -1]),
        ([[0.0], [1.0], [-1.0]], None, [0, 1, -1]),
        ([True, False, True], None, [1, 0, 1]),
        ([0, 2, 3, -1], [2, 3], [0, 1, 1, -1]),
        ([0, 2, 3, -1], "2", [0, 1, 0, -1]),
        (["tumour", "stroma", ""], "tumour", [1, 0, -1]),
        ([0.0, 2.0, np.nan, -1.0], 2, [0, 1, -1, -1]),
    ],
)
def test_instance_labels(tmp_path, values, positive, expected):
    values = [word.encode() for word in values] if isinstance(values[0], str) else values
    write_h5(tmp_path / "a.h5", {"features": features(len(values)), "inst_label": values})
    bag = open_reader(tmp_path, positive_instance_label=positive).read("a")
    assert bag.y_inst.dtype == torch.int64
    assert bag.y_inst.tolist() == expected


@pytest.mark.parametrize(("values", "named"), [([0, 1, 2, 7], "2, 7"), ([b"a", b"b"], "a, b")])
def test_instance_labels_that_nobody_explains(tmp_path, values, named):
    write_h5(tmp_path / "a.h5", {"features": features(len(values)), "inst_label": values})
    with pytest.raises(BagError, match=rf"a\.h5: .*got {named}.*data\.positive_instance_label"):
        open_reader(tmp_path).read("a")


def test_streams_of_plain_folders_check_each_other(tmp_path):
    for name, width in (("one", 2), ("two", 3)):
        for bag_id in "abcd":
            path = tmp_path / name / f"{bag_id}.h5"
            write_h5(path, {"features": features(4, width), "coords": grid(4)})
    (tmp_path / "two/b.h5").unlink()
    write_h5(tmp_path / "two/c.h5", {"features": features(5, 3), "coords": grid(5)})
    moved = grid(4)
    moved[2] += 1
    write_h5(tmp_path / "two/d.h5", {"features": features(4, 3), "coords": moved})
    reader = open_reader(tmp_path, streams={"first": "one", "second": str(tmp_path / "two")})
    assert reader.header("a").widths == {"first": 2, "second": 3}
    with pytest.raises(BagError, match=r"/two: expected a file of bag 'b' in stream second"):
        reader.header("b")
    with pytest.raises(
        BagError, match=r"two/c\.h5: expected 4 instances as in .*one/c\.h5.*got 5 \(stream second"
    ):
        reader.header("c")
    with pytest.raises(
        BagError,
        match=r"two/d\.h5: expected the coords of .*one/d\.h5, got others from row 2 on "
        r"\(\[513\.0, 1\.0\] for \[512\.0, 0\.0\]\)",
    ):
        reader.read("d")


@pytest.mark.parametrize("chunks", [None, True])
def test_streams_have_the_same_instance_labels(tmp_path, chunks):
    labels = {"one": [0, 1, 0, 0], "two": [0, 1, 0, 0], "three": [0, 1, 0, 1]}
    for name, values in labels.items():
        arrays = {"features": features(4), "inst_label": np.array(values)}
        write_h5(tmp_path / name / "a.h5", arrays, chunks=chunks)
    assert open_reader(tmp_path, streams=["one", "two"]).read("a").y_inst.tolist() == [0, 1, 0, 0]
    reader = open_reader(tmp_path, streams=["one", "three"])
    told = (
        r"three/a\.h5: expected the instance labels of .*one/a\.h5, got others from row 3 on: write"
    )
    for rows in (None, np.arange(4)):
        with pytest.raises(BagError, match=told):
            reader.read("a", rows)


def test_nothing_is_asked_of_a_bag_that_there_is_not(tmp_path):
    reader = open_reader(plain_folder(tmp_path, [3]))
    with pytest.raises(BagError, match="expected a file of bag 'zz', found none"):
        reader.read("zz")


def test_names_lose_the_suffixes_of_slides(tmp_path):
    for name in ("TCGA-1.0012.svs.h5", "b.v2.h5", "007.h5"):
        write_h5(tmp_path / name, {"features": features(2)})
    assert open_reader(tmp_path).ids == ("007", "TCGA-1.0012", "b.v2")


def test_hdf5_and_torch_see_the_same(tmp_path):
    """The oracle is the library itself, file by file."""
    plain_folder(tmp_path, [3, 30], compression="gzip", chunks=True)
    reader = open_reader(tmp_path)
    for bag_id in reader.ids:
        with h5py.File(tmp_path / f"{bag_id}.h5") as file:
            same(reader.read(bag_id).x, file["features"][:])
