"""All slides of a patient as one bag."""

import numpy as np
import pytest
import torch

from bag_folders import features, grid, write_h5, write_labels
from milforge.data import (
    Bag,
    BagList,
    BagTable,
    FeatureBags,
    GraphBags,
    PatientBags,
    collate_bags,
    feature_bags,
    open_reader,
    patients_of,
)
from milforge.data.dataset import reads_into
from milforge.data.wrappers.patients import join_slides
from milforge.graph import AdjacencyBuilder, build_adjacency

SIZES = {"a": 5, "b": 3, "c": 4, "d": 2}
OWNERS = {"a": "p", "b": "q", "c": "p", "d": "p"}


def make_table(**changes):
    """Slides a, c and d are p's, b is q's."""
    slides = [
        Bag(
            torch.from_numpy(features(n, seed=n)).float(), coords=torch.tensor(grid(n)), bag_id=name
        )
        for name, n in SIZES.items()
    ]
    columns = {"age": ["60", "40", "60", "60"], "stain": ["HE", "HE", "PAS", "HE"]}
    table = BagTable.of(slides, ["yes", "no", "yes", "yes"], groups=OWNERS.values())
    return BagTable(
        **{**vars(table), "columns": columns, "covariates": ("age",), **changes}  # type: ignore[arg-type]
    )


def test_slides_are_read_into_the_memory_of_their_patient(tmp_path):
    for name, n in SIZES.items():
        write_h5(tmp_path / f"{name}.h5", {"features": features(n, seed=n), "coords": grid(n)})
    slides = FeatureBags(open_reader(tmp_path))
    patients = PatientBags(slides, [[0, 2, 3], [1]], ["p", "q"])
    assert reads_into(patients)
    assert not reads_into(PatientBags(BagList([slides[0]]), [[0]], ["p"]))
    for number, rows in enumerate((11, 3)):
        wanted = patients[number]
        out = {"x": torch.full((rows, wanted.x.shape[1]), -1, dtype=wanted.x.dtype)}
        bag = patients.read_into(number, out, coords=number == 0)
        assert bag.x is out["x"]
        assert torch.equal(bag.x, wanted.x)
        assert torch.equal(bag.slide, wanted.slide)
        assert bag.bag_id == wanted.bag_id
        assert (bag.coords is None) == (number == 1)
    # Memory that does not fit them is not taken.
    for rows in (10, 12):
        out = {"x": torch.empty(rows, patients[0].x.shape[1], dtype=patients[0].x.dtype)}
        bag = patients.read_into(0, out)
        assert bag.x is not out["x"]
        assert torch.equal(bag.x, patients[0].x)


def test_slides_lie_one_below_the_other():
    table = make_table()
    patients = patients_of(table)
    assert (patients.ids, patients.groups) == (("p", "q"), ("p", "q"))
    assert patients.labels.columns["label"].tolist() == ["yes", "no"]
    assert patients.columns == {
        "age": ["60", "40"],
        "stain": ["HE;PAS", "HE"],
        "slides": ["a;c;d", "b"],
    }
    assert patients.bags.sizes.tolist() == [11, 3]
    bag, slides = patients.bags[0], [table.bags[n] for n in (0, 2, 3)]
    assert torch.equal(bag.x, torch.cat([slide.x for slide in slides]))
    assert torch.equal(bag.coords, torch.cat([slide.coords for slide in slides]))
    assert bag.slide.tolist() == [0] * 5 + [1] * 4 + [2] * 2
    outline = patients.bags.outline(0)
    assert torch.equal(outline.coords, bag.coords)
    assert (len(outline), outline.bag_id) == (11, "p")
    batch = collate_bags([patients.bags[0], patients.bags[1]])
    assert batch.slide.tolist() == [*bag.slide.tolist(), 0, 0, 0]
    assert batch.without_bags().slide.shape == (0,)


def test_no_edge_joins_two_slides():
    table = make_table()
    for build in (
        AdjacencyBuilder("radius", radius=1e9),
        AdjacencyBuilder("knn", k=3),
        AdjacencyBuilder("feature_knn", k=2),
        AdjacencyBuilder("chain"),
    ):
        bags = GraphBags(PatientBags(table.bags, [[0, 2, 3], [1]], ["p", "q"]), build)
        bag = bags[0]
        dense, slide = bag.adj.to_dense(), bag.slide
        assert (dense[slide[:, None] != slide] == 0).all()
        for number, n in enumerate((0, 2, 3)):
            own = slide == number
            alone = build(table.bags[n].coords, table.bags[n].x).to_dense()
            torch.testing.assert_close(dense[own][:, own], alone)
        bags.prepare()
    joined = build_adjacency(bag.coords, method="radius", radius=1e9, normalize=None)
    assert (joined.to_dense()[slide[:, None] != slide] > 0).any()  # what must not happen


def test_streams_and_instance_labels():
    slides = [
        Bag({"u": torch.zeros(2, 3), "v": torch.ones(2, 1)}, y_inst=torch.tensor([1, 0])),
        Bag({"u": torch.ones(1, 3), "v": torch.ones(1, 1)}),
    ]
    bag = join_slides(slides, "p")
    assert bag.x["u"].sum() == 3
    assert bag.y_inst.tolist() == [1, 0, -1]


def test_rows_of_a_patient_that_disagree_are_all_told():
    table = make_table(columns={"age": ["60", "40", "61", "60"]})
    labels = table.labels.columns["label"]
    labels[3] = "no"
    told = [fault.message for fault in patients_of(table).faults]
    expected = (
        "patient 'p': expected one value of {}, got {} in the row of 'a' and {} in that of {}"
    )
    assert told == [
        expected.format("'label'", "'yes'", "'no'", "'d'"),
        expected.format("'age'", "'60'", "'61'", "'c'"),
    ]


def test_slides_that_do_not_fit_are_refused():
    wide = Bag(torch.zeros(2, 9), bag_id="wide")
    narrow = Bag(torch.zeros(2, 4), bag_id="narrow")
    with pytest.raises(ValueError, match=r"patient 'p': expected features alike in all slides"):
        join_slides([wide, narrow], "p")
    placed = Bag(torch.zeros(2, 9), coords=torch.zeros(2, 2), bag_id="placed")
    with pytest.raises(
        ValueError, match=r"expected coords alike .* None in 'wide' and 2 in 'placed'"
    ):
        join_slides([wide, placed], "p")
    with pytest.raises(ValueError, match=r"data.bag=patient: .* name it by data.group_column"):
        patients_of(make_table(groups=None))
    with pytest.raises(ValueError, match="slide of shape"):
        Bag(torch.zeros(3, 1), slide=torch.tensor([0, 1, 0]))


def test_a_folder_gives_patients(tmp_path):
    for name, n in SIZES.items():
        write_h5(tmp_path / "bags" / f"{name}.h5", {"features": features(n), "coords": grid(n)})
    rows = [(name, owner, "yes" if owner == "p" else "no") for name, owner in OWNERS.items()]
    write_labels(tmp_path / "labels.csv", rows, "slide_id,patient,label")
    options = {"bag": "patient", "max_instances_per_bag": 3}
    table = feature_bags(str(tmp_path / "bags"), str(tmp_path / "labels.csv"), **options)
    assert table.ids == ("p", "q")
    assert (len(table.bags[0]), len(table.training_bags[0])) == (11, 3 + 3 + 2)
    assert np.array_equal(table.training_bags.sizes, [8, 3])
    table.training_bags.set_epoch(1)
    (tmp_path / "bags" / "c.h5").write_bytes(b"no")
    kept = feature_bags(
        str(tmp_path / "bags"), str(tmp_path / "labels.csv"), bag="patient", on_error="skip"
    )
    assert kept.columns["slides"] == ["a;d", "b"]
    with pytest.raises(ValueError, match=r"data\.bag to be slide or patient, got 'case'"):
        feature_bags(str(tmp_path / "bags"), bag="case")
