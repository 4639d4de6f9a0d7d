import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from bag_folders import features, grid, plain_folder, truncate, write_h5, write_labels
from milforge.cli import inspect
from milforge.data.features.readers import LAYOUTS


def rows(outcome):
    return outcome.stdout.splitlines()


def test_prints_what_a_folder_holds(here, tmp_path):
    root = plain_folder(tmp_path / "bags", [3, 30, 45, 2000])
    lines = [("b0", 0, "p1"), ("b1", 1, "p1"), ("b2", 1, "p2"), ("b3", 1, "p3")]
    labels = write_labels(tmp_path / "l.csv", lines, "slide_id,label,patient")
    outcome = here("inspect", str(root), "--labels", str(labels), "--deep")
    assert outcome.returncode == 0
    bar = "#" * 20
    assert rows(outcome) == [
        f"{root}: plain, 4 bags",
        "instances  2,078 in all, 3 to 2,000 per bag, median 45",
        f"      2 to     4  {bar} 1",
        "      5 to     9   0",
        "     10 to    19   0",
        f"     20 to    49  {bar * 2} 2",
        "     50 to    99   0",
        "    100 to   199   0",
        "    200 to   499   0",
        "    500 to   999   0",
        "  1,000 to 1,999   0",
        f"  2,000 to 4,999  {bar} 1",
        "features   4 x float16",
        "memory     16.6 kB for all (loader.keep), 16.0 kB for the largest bag, "
        "8.0 kB for 1,000 instances",
        "coords     in all 4 bags, 2 axes in ?, stride 256",
        "instance labels  none",
        "labels     binary: 0 1, 1 3",
        "positive   1: task.positive=... chooses another",
        "groups     3, the largest of 2 bags",
        "faults     0 (all features read)",
    ]


def test_lists_the_columns_of_a_table(here, tmp_path):
    table = [(n // 3, n // 3 % 2, n % 2, 5, "w", n % 4 / 2) for n in range(12)]
    path = write_labels(tmp_path / "t.csv", table, "bag_id,label,f0,f1,word,fold")
    outcome = here("inspect", str(path))
    assert [line for line in rows(outcome) if line.startswith("columns")] == [
        "columns    3 feature columns: f0, f1, fold",
        "columns    left out: 1 column: word (text)",
        "columns    may be no features: 1 column: fold (by its name): data.exclude_columns leaves "
        "them out",
        "columns    1 hardly vary: f1",
    ]
    outcome = here("inspect", str(path), "--exclude-columns", "fold", "word")
    assert "columns    2 feature columns: f0, f1" in rows(outcome)
    outcome = here("inspect", str(path), "--feature-columns", "fold")
    assert "columns    1 feature column: fold" in rows(outcome)


def test_labels_that_are_none_are_faults(here, tmp_path):
    root = plain_folder(tmp_path / "bags", [3] * 8)
    given = ["yes", "no", "NA", "nan", "null", "None", "", "No"]
    labels = write_labels(tmp_path / "l.csv", {f"b{n}": text for n, text in enumerate(given)})
    outcome = here("inspect", str(root), "--labels", str(labels))
    assert outcome.returncode == 1
    start = rows(outcome).index("faults     6 (headers read: --deep looks for NaN)")
    faults = [line.removeprefix(f"  {labels}: ") for line in rows(outcome)[start + 1 :]]
    nothing = "expected the label, got nothing: fill it in, or remove the row"
    assert faults[:5] == [f"row {n + 1}, bag 'b{n}': {nothing}" for n in range(2, 7)]
    assert faults[5].startswith(
        "row 8, bag 'b7': expected one spelling of each label, got 'No' beside 'n"
    )
    assert "labels     binary: no 1, yes 1" in rows(outcome)


def test_names_bags_of_the_same_features(here, tmp_path):
    root = plain_folder(tmp_path / "bags", [3, 4])
    shutil.copy(root / "b1.h5", root / "again.h5")
    outcome = here("inspect", str(root))
    assert outcome.returncode == 0
    assert "same       features in again = b1" in rows(outcome)


def test_prints_every_fault_and_exits_with_1(here, tmp_path):
    root = plain_folder(tmp_path / "bags", [3, 30, 45])
    truncate(root / "b0.h5")
    write_h5(root / "b3.h5", {"features": features(9, 7), "coords": grid(9)})
    labels = write_labels(tmp_path / "l.csv", {"b0": 0, "b1": 1, "b2": 1, "b9": 0})
    outcome = here("inspect", str(root), "--labels", str(labels))
    assert outcome.returncode == 1
    start = rows(outcome).index("faults     4 (headers read: --deep looks for NaN)")
    faults = rows(outcome)[start + 1 :]
    assert [fault.split(": ")[0] for fault in faults] == [
        f"  {root}/b0.h5",
        f"  {root}/b3.h5",
        f"  {root}",
        f"  {labels}",
    ]
    assert "features   4 x float16 in 2, 7 x float16 in 1" in rows(outcome)
    assert "groups     none: bags of one patient cannot be kept together" in rows(outcome)


def test_options_reach_the_reader(here, tmp_path):
    for name, width in (("one", 2), ("two", 3)):
        arrays = {"z": features(12, width), "xy": grid(12, 8), "kind": np.arange(12) % 3}
        write_h5(tmp_path / name / "a.h5", arrays, {"xy": {"patch_size_level0": 16}})
    labels = write_labels(tmp_path / "l.csv", [("a", 1, 0, "c")], "scan,er,pr,centre")
    outcome = here(
        "inspect", str(tmp_path), "--streams", "first=one", "two", "--features-key", "z",
        "--coords-key", "xy", "--inst-label-key", "kind", "--positive-instance-label", "1", "2",
        "--labels", str(labels), "--id-column", "scan", "--label-column", "er", "pr",
        "--group-column", "centre", "--deep",
    )  # fmt: skip
    assert outcome.returncode == 0, outcome
    for line in (
        "features first   2 x float16",
        "features two   3 x float16",
        "coords     in all 1 bags, 2 axes in px, stride 8, tiles of 16",
        "instance labels  in all 1 bags",
        "labels     multilabel: er 1, pr 0",
        "groups     1, the largest of 1 bag",
    ):
        assert line in rows(outcome)


def test_stamp_tables(here, tmp_path):
    write_h5(tmp_path / "f/s1.h5", {"feats": features(3), "coords": grid(3)})
    slides = write_labels(tmp_path / "s.csv", {"s1.h5": "p"}, "FILENAME,PATIENT")
    labels = write_labels(tmp_path / "c.csv", {"p": "yes"}, "PATIENT,isMSI")
    outcome = here(
        "inspect", str(tmp_path / "f"), "--labels", str(labels), "--slide-table", str(slides),
        "--label-column", "isMSI", "--classes", "no", "yes",
    )  # fmt: skip
    assert outcome.returncode == 0
    assert f"{tmp_path}/f: stamp, 1 bag" in rows(outcome)
    assert "labels     binary: no 0, yes 1" in rows(outcome)
    assert "coords     in all 1 bags, 2 axes in um, stride 256" in rows(outcome)


def test_labels_that_the_layout_stores(here, tmp_path):
    path = write_labels(tmp_path / "t.csv", [("a", 1, 5), ("b", 0, 6)], "bag_id,label,f")
    outcome = here("inspect", str(path))
    assert "labels     binary: 0 1, 1 1" in rows(outcome)
    assert "coords     none" in rows(outcome)


def test_labels_at_fault_are_told_beside_what_the_others_mean(here, tmp_path):
    root = plain_folder(tmp_path / "bags", [3, 4, 5, 6, 7])
    given = {"b0": "no", "b1": "maybe", "b2": "yes", "b3": "", "b4": "yes"}
    labels = write_labels(tmp_path / "l.csv", given)
    outcome = here("inspect", str(root), "--labels", str(labels), "--classes", "yes", "no")
    assert outcome.returncode == 1
    assert "labels     binary: yes 2, no 1" in rows(outcome)
    assert "positive   no: task.positive=... chooses another" in rows(outcome)
    start = rows(outcome).index("faults     2 (headers read: --deep looks for NaN)")
    assert rows(outcome)[start + 1 :] == [
        f"  {labels}: row 2, bag 'b1': expected the label among the classes yes, no, got 'maybe': "
        "mend it, or add it to task.class_names",
        f"  {labels}: row 4, bag 'b3': expected the label, got nothing: fill it in, or remove the "
        "row",
    ]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (["1.5", "2.5", "3.25", "7.125"], "task=regression predicts numbers"),
        (["I", "II", "III", "I"], "labels     multiclass: I 2, II 1, III 1"),
        (["yes", "yes", "yes", "yes"], "expected at least two classes in the label column 'label'"),
    ],
)
def test_what_the_labels_seem_to_mean(here, tmp_path, values, line):
    root = plain_folder(tmp_path / "bags", [3, 4, 5, 6])
    labels = write_labels(tmp_path / "l.csv", {f"b{n}": value for n, value in enumerate(values)})
    outcome = here("inspect", str(root), "--labels", str(labels))
    assert outcome.returncode == 0
    (told,) = [row for row in rows(outcome) if row.startswith("labels")]
    assert line in told
    assert not [row for row in rows(outcome) if row.startswith("positive")]


def test_without_labels_and_without_a_bag_that_can_be_opened(here, tmp_path):
    (tmp_path / "a.h5").write_bytes(b"")
    outcome = here("inspect", str(tmp_path))
    assert outcome.returncode == 1
    assert rows(outcome)[:3] == [
        f"{tmp_path}: plain, 1 bag",
        "labels     none",
        "faults     1 (headers read: --deep looks for NaN)",
    ]


def test_errors_are_one_sentence(here, tmp_path):
    assert here("inspect", str(tmp_path / "no")).error().startswith(f"{tmp_path}/no: found nothing")
    root = plain_folder(tmp_path / "bags", [3])
    missing = here("inspect", str(root), "--labels", str(tmp_path / "l.csv")).error()
    assert missing.startswith(f"{tmp_path}/l.csv: found nothing there")
    labels = write_labels(tmp_path / "l.csv", {"b0": 1}, "name,label")
    error = here("inspect", str(root), "--labels", str(labels)).error()
    assert "expected a column slide_id or" in error
    assert "data.id_column" in error
    (tmp_path / "empty").mkdir()
    assert "expected one of the layouts" in here("inspect", str(tmp_path / "empty")).error()


def test_help_and_early_errors_import_no_torch(tmp_path):
    program = (
        "import sys\nfrom milforge.cli import inspect\ntry:\n    inspect.main()\n"
        "except SystemExit as end:\n    print(end.code)\n"
        "print({'torch', 'h5py', 'pyarrow', 'numpy'} & set(sys.modules))\n"
    )
    for arguments, said in (
        (["--help"], "usage: milforge-inspect"),
        (["no-such"], "found nothing"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True
        )
        assert said in done.stdout
        assert done.stdout.splitlines()[-1] == "set()"


def test_help_documents_every_option_and_layout(capsys):
    with pytest.raises(SystemExit):
        inspect._parser().parse_args(["--help"])
    text = capsys.readouterr().out
    for layout in LAYOUTS:
        assert f"  {layout} " in text
    for action in inspect._parser()._actions:
        assert action.help


def test_layouts_are_those_of_the_readers():
    assert set(inspect._LAYOUTS) == set(LAYOUTS)


def test_prints_what_a_folder_of_images_holds(here, tmp_path):
    (tmp_path / "slides" / "deep").mkdir(parents=True)
    tiled = {"tile": (64, 64), "photometric": "rgb"}
    half = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    for name, size, options in (("a", (300, 200), half), ("deep/b", (400, 500), {})):
        path = tmp_path / "slides" / f"{name}.tif"
        tifffile.imwrite(path, np.zeros((*size, 3), np.uint8), **tiled, **options)
    (tmp_path / "slides" / "broken.tif").write_bytes(b"none")
    labels = write_labels(tmp_path / "l.csv", [("a", 0), ("b", 1), ("c", 1)], "slide_id,label")
    outcome = here("inspect", str(tmp_path / "slides"), "--labels", str(labels))
    assert outcome.returncode == 1
    lines = rows(outcome)
    assert lines[0] == f"{tmp_path / 'slides'}: images, 3 found"
    assert lines[1:5] == [
        "sizes      200 x 300 to 500 x 400 pixels, width x height",
        "channels   3",
        "levels     1",
        "pixels     0.5 µm in 1, not told in 1",
    ]
    assert "labels     binary: 0 1, 1 2" in lines
    text = outcome.stdout
    assert "faults     3 (headers read)" in text
    assert "broken.tif" in text
    assert "expected a label for image 'broken', got none" in text
    assert "expected an image 'c', found no file" in text


def test_forecasts_a_step(here, tmp_path):
    root = plain_folder(tmp_path / "bags", [3, 30, 45, 2000])
    labels = write_labels(tmp_path / "l.csv", {"b0": "a", "b1": "b", "b2": "c", "b3": "a"})
    arguments = (str(root), "--labels", str(labels), "--step")
    outcome = here("inspect", *arguments, "model=sm_abmil", "graph=grid", "loader.batch_size=2")
    assert outcome.returncode == 0
    step = rows(outcome).index(next(row for row in rows(outcome) if row.startswith("step")))
    text = " ".join(line.strip() for line in rows(outcome)[step : step + 5])
    assert " on the device for 2 bags of 2,045 instances, the largest batch: " in text
    assert "; 81.8 kB in the memory of the machine for 5 batches of the loader not counted" in text
    for arguments, said in (
        ((str(root), "--step", "model=no"), "--step: there is no model=no"),
        ((str(root), "--step", "model=sm_abmil"), "--step: the model smooths over a graph"),
    ):
        assert said in here("inspect", *arguments).error()
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", np.zeros((64, 64, 3), np.uint8), tile=(64, 64))
    assert "expected bags of features" in here("inspect", str(images), "--step").error()
