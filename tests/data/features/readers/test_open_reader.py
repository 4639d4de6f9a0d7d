import pytest

from bag_folders import features, plain_folder, write_h5, write_npy
from milforge.data.features.readers import LAYOUTS, detect_layout, open_reader


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (["pt_files/a.pt", "h5_files/a.h5"], "clam"),
        (["h5_files/a.h5"], "clam"),
        (["features_uni/a.h5", "features_conch/a.h5"], "trident"),
        (["20x/features_uni/a.h5"], "trident"),
        (["features/a.npy", "labels/a.npy"], "torchmil"),
        (["a.npy"], "plain"),
        (["a.h5", "labels.csv"], "plain"),
        (["h5/a.h5", "labels.csv"], "plain"),
        (["pt_files/a.pt", "labels.csv"], "clam"),
        (["notes/a.txt", "bags.csv"], "table"),
        (["bags.csv"], "table"),
        (["clean1.data", "README.txt"], "table"),
    ],
)
def test_detects(tmp_path, files, layout):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert detect_layout(tmp_path) == layout
    assert layout in LAYOUTS


def test_a_folder_of_bags_beside_a_table_is_the_features(tmp_path):
    write_h5(tmp_path / "h5/a.h5", {"features": features(3)})
    (tmp_path / "labels.csv").write_text("slide_id,label,age\na,1,60\n")
    reader = open_reader(tmp_path)
    assert (reader.layout, reader.ids, reader.root) == ("plain", ("a",), tmp_path / "h5")
    write_h5(tmp_path / "more/b.h5", {"features": features(3)})
    with pytest.raises(ValueError, match=r"expected one folder of bags, found h5/, more/: give"):
        open_reader(tmp_path)


@pytest.mark.parametrize("option", [{"feature_columns": ["f0"]}, {"exclude_columns": ["f0"]}])
def test_columns_are_those_of_a_table(tmp_path, option):
    write_npy(tmp_path / "a.npy", features(2))
    with pytest.raises(ValueError, match="expected a table of instances, whose columns"):
        open_reader(tmp_path, **option)


def test_stamp_is_told_from_plain_by_its_key(tmp_path):
    write_h5(tmp_path / "a.h5", {"features": features(2)})
    assert detect_layout(tmp_path) == "plain"
    write_h5(tmp_path / "a.h5", {"feats": features(2)})
    assert detect_layout(str(tmp_path)) == "stamp"


def test_no_layout_lists_what_was_looked_for_and_found(tmp_path):
    (tmp_path / "slides").mkdir()
    for name in ("a.png", "b.png", "notes"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"clam \(pt_files/ or h5_files/\)") as caught:
        detect_layout(tmp_path)
    message = str(caught.value)
    for layout in LAYOUTS:
        assert layout in message
    assert "found slides/, 2 file(s) .png, 1 file(s) no suffix" in message
    assert "data.layout" in message


def test_nothing_there(tmp_path):
    for function in (detect_layout, open_reader):
        with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/no: expected a folder .*data\.r"):
            function(tmp_path / "no")


def test_no_such_layout_and_no_bag(tmp_path):
    with pytest.raises(ValueError, match=r"data\.layout to be one of .*'stamp'.*got 'dicom'"):
        open_reader(tmp_path, "dicom")
    (tmp_path / "pt_files").mkdir()
    with pytest.raises(ValueError, match=r"expected bags laid out as clam .*found pt_files/"):
        open_reader(tmp_path)
    with pytest.raises(ValueError, match="expected one table of instances, found 0"):
        open_reader(tmp_path, "table")


def test_a_stream_without_folder(tmp_path):
    write_npy(tmp_path / "one/a.npy", features(2))
    with pytest.raises(
        FileNotFoundError, match=r"/two: expected the folder of stream b, .*beside one/: .*streams"
    ):
        open_reader(tmp_path, streams={"a": "one", "b": "two"})


@pytest.mark.parametrize(
    "option", [{"streams": ["uni", "conch"]}, {"features_key": "feats"}, {"layout": "clam"}]
)
def test_what_a_table_has_no_use_for_is_refused(tmp_path, option):
    path = tmp_path / "t.csv"
    path.write_text("bag_id,f0\na,1\n")
    (name,) = option
    with pytest.raises(ValueError, match=rf"t\.csv: .*data\.{name}=.*leave data\.{name} out"):
        open_reader(path, **option)


def test_a_stream_is_a_folder_of_features(tmp_path):
    write_npy(tmp_path / "one/npy/a.npy", features(2))
    write_npy(tmp_path / "two/a.npy", features(2, 3))
    reader = open_reader(tmp_path, streams={"a": "one", "b": "two"})
    assert reader.header("a").widths == {"a": 4, "b": 3}
    (tmp_path / "three").mkdir()
    (tmp_path / "three/t.csv").write_text("bag_id,f0\na,1\n")
    with pytest.raises(ValueError, match=r"/three: .* the stream b, found a table: .*one stream"):
        open_reader(tmp_path, streams={"a": "two", "b": "three"})


def test_the_folder_of_an_encoder_may_be_the_root(tmp_path):
    plain_folder(tmp_path / "features_uni", [3])
    for layout in ("trident", None):
        reader = open_reader(tmp_path / "features_uni", layout)
        assert reader.header("b0").instances == 3


def test_a_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    plain_folder(tmp_path / "bags", [3])
    assert open_reader("~/bags").ids == ("b0",)
