"""Split files of CLAM and torchmil, written out here as those tools write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milforge.data import Split, read_splits, write_split

SPLIT = Split(("slide_1", "slide_2", "slide_3"), ("slide_4",), ("slide_5", "slide_6"))
CLAM = ",train,val,test\n0,slide_1,slide_4,slide_5\n1,slide_2,,slide_6\n2,slide_3,,\n"
CLAM_BOOL = (
    ",train,val,test\n"
    "slide_1,True,False,False\n"
    "slide_2,True,False,False\n"
    "slide_4,False,True,False\n"
    "slide_5,False,False,True\n"
    "slide_3,True,False,False\n"
    "slide_6,False,False,True\n"
)
TORCHMIL = (
    "bag_name,split\nslide_1,train\nslide_5,test\nslide_2,train\nslide_4,val\n"
    "slide_3,train\nslide_6,test\n"
)


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content)
        return path

    return write


def sorted_parts(split):
    return Split(*(tuple(sorted(part)) for part in (split.train, split.val, split.test)))


@pytest.mark.parametrize(
    "content",
    [
        CLAM,
        CLAM_BOOL,
        TORCHMIL,
        CLAM.replace("\n", "\r\n"),
        "\ufeff" + CLAM,
        CLAM.replace(",", ";"),
        CLAM.replace(",", "\t"),
        "\n" + CLAM_BOOL.replace(",", "; "),
        TORCHMIL.replace(",", " ; ").replace("\n", " \n").replace(" ;", ";"),
        "train,val,test\nslide_1,slide_4,slide_5\nslide_2,,slide_6\nslide_3\n",
        "index,split,bag_name\n0,train,slide_1\n1,train,slide_2\n2,train,slide_3\n"
        "3,val,slide_4\n4,test,slide_5\n\n5,test,slide_6\n",
    ],
)
def test_every_form_is_read(write, content):
    assert sorted_parts(read_splits(write("any.csv", content))) == SPLIT


def test_the_order_of_a_file_is_kept(write):
    assert read_splits(write("splits.csv", CLAM_BOOL)).train == ("slide_1", "slide_2", "slide_3")
    assert read_splits(write("splits.csv", "train,val,test\nb,c,d\na,,\n")).train == ("b", "a")


def test_ids_remain_text(write):
    split = read_splits(write("s.csv", ",train,val,test\n0,007,1.50,NaN\n1,1e3,,\n"))
    assert split == Split(("007", "1e3"), ("1.50",), ("NaN",))


def test_a_fold_of_a_folder(write, tmp_path):
    write("splits_0.csv", CLAM)
    write("splits_0_bool.csv", "train,val,test\nwrong,wrong,wrong\n")
    write("splits_2_bool.csv", CLAM_BOOL)
    assert read_splits(tmp_path, 0) == SPLIT
    assert sorted_parts(read_splits(str(tmp_path), 2)) == SPLIT
    with pytest.raises(FileNotFoundError, match=r"splits_1\.csv there, found splits_0\.csv, spl"):
        read_splits(tmp_path, 1)
    with pytest.raises(FileNotFoundError, match=r"expected splits\.csv there.*give split\.fold"):
        read_splits(tmp_path)
    write("splits.csv", TORCHMIL)
    assert sorted_parts(read_splits(tmp_path)) == SPLIT


# Names that a file may have: commas, quotes and spaces, but no control characters.
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@given(st.lists(names, unique=True, max_size=12), st.data())
def test_what_is_written_is_read_back(tmp_path_factory, ids, data):
    bounds = sorted(data.draw(st.tuples(*[st.integers(0, len(ids))] * 2)))
    split = Split(
        tuple(ids[: bounds[0]]), tuple(ids[bounds[0] : bounds[1]]), tuple(ids[bounds[1] :])
    )
    path = tmp_path_factory.mktemp("splits") / "splits_0.csv"
    write_split(split, path)
    assert read_splits(path) == split


def test_it_is_written_as_clam_does(tmp_path):
    write_split(SPLIT, tmp_path / "a" / "splits_0.csv")
    assert (tmp_path / "a" / "splits_0.csv").read_bytes() == CLAM.encode()
    with pytest.raises(ValueError, match="got an empty one"):
        write_split(Split(("",), (), ()), tmp_path / "b.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "got an empty file"),
        ("train,test\na,b\n", "expected the columns train, val, test, or bag_name, split, got"),
        (
            "bag_name,split\na,train\nb,fold1\n",
            "one of train, val, test, calibration, got 'b, fold1'",
        ),
        ("bag_name,split\na\n", "in each row a bag and one of"),
        ("train,val,test\nTrue,False,False\n", "the bag ids in a first column"),
        ('train,val,test\n"a"b,c,d\n', "expected a CSV file in UTF-8"),
        ("train,val,test,train\na,b,c,d\n", "expected one column train, got several: remove one"),
    ],
)
def test_a_file_of_another_form_is_refused(write, content, message):
    path = write("bad.csv", content)
    with pytest.raises(ValueError, match=message) as caught:
        read_splits(path)
    assert str(caught.value).startswith(str(path))


def test_a_binary_file_and_missing_ones_are_refused(write, tmp_path):
    path = tmp_path / "binary.csv"
    path.write_bytes(b"train,val,test\n\xff\xfe\x00,a,b\n")
    with pytest.raises(ValueError, match="UTF-8"):
        read_splits(path)
    with pytest.raises(ValueError, match=r"a folder of split files with fold=3, got a file"):
        read_splits(write("splits_3.csv", CLAM), 3)
    with pytest.raises(FileNotFoundError, match="a split file or a folder"):
        read_splits(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="found no split file"):
        read_splits(tmp_path / "empty", 0)


def test_a_calibration_part_is_written_and_read(tmp_path, write):
    split = Split(("a", "b"), ("c",), ("d",), ("e", "f"))
    write_split(split, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text().startswith(",train,val,test,calibration\n")
    assert read_splits(tmp_path / "s.csv") == split
    rows = "bag_name,split\na,train\nb,train\nc,val\nd,test\ne,calibration\nf,calibration\n"
    assert read_splits(write("t.csv", rows)) == split
