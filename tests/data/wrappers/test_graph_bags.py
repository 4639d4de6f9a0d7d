import pickle
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from bag_folders import plain_folder
from milforge.data import (
    Bag,
    BagList,
    FeatureBags,
    GraphBags,
    GraphCounts,
    LabelledBags,
    bag_outline,
    digits_grid,
    open_reader,
    set_epoch,
)
from milforge.data.wrappers import graph_bags as module
from milforge.graph import AdjacencyBuilder, build_adjacency

GRID = AdjacencyBuilder("grid")


class Bags(list):
    labels = torch.tensor([0, 1, 0])
    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


def make_bags(**changes):
    coords = [[[0, 0], [8, 0], [0, 8]], [[0, 0], [16, 0], [24, 0], [80, 80]], [[8, 8]]]
    bags = []
    for number, places in enumerate(coords):
        x = torch.randn(len(places), 1, 2, 2, generator=torch.Generator().manual_seed(number))
        bag = Bag(x, y=number % 2, coords=torch.tensor(places), bag_id=f"bag {number}")
        bags.append(replace(bag, **changes))
    return Bags(bags)


def dense(bags):
    return [bag.adj.to_dense() for bag in (bags[i] for i in range(len(bags)))]


@pytest.fixture
def builds(monkeypatch):
    """How often an adjacency was built."""
    calls = []

    def count(*arguments, **options):
        calls.append(arguments)
        return build_adjacency(*arguments, **options)

    monkeypatch.setattr("milforge.graph.builder.build_adjacency", count)
    return calls


def test_each_bag_has_the_adjacency_of_its_coords():
    plain, bags = make_bags(), GraphBags(make_bags(), GRID)
    for bag, with_graph in zip(plain, (bags[i] for i in range(3)), strict=True):
        assert_close(
            with_graph.adj.to_dense(), build_adjacency(bag.coords, method="grid").to_dense()
        )
        assert torch.equal(with_graph.x, bag.x)
        assert (with_graph.bag_id, with_graph.y) == (bag.bag_id, bag.y)
    assert len(bags) == 3
    assert bags.labels is plain.labels
    assert_close(bags[-1].adj.to_dense(), bags[2].adj.to_dense())


@pytest.mark.parametrize("cached", [False, True])
def test_counts_against_a_loop(cached, tmp_path):
    bags = digits_grid(train=12, mean_side=5, sd_side=1, holes=0.6, seed=3).train
    graph = GraphBags(bags, AdjacencyBuilder(), tmp_path if cached else None)
    instances = edges = isolated = 0
    for bag in (graph[i] for i in range(len(graph))):
        links = bag.adj.to_dense()
        off = links - torch.diag(links.diagonal())
        instances += len(bag)
        edges += int((off > 0).sum()) // 2
        isolated += int((off.sum(1) == 0).sum())
    assert isolated > 0
    assert graph.prepare() == GraphCounts(instances, edges, isolated)


def test_in_memory_each_is_built_once(builds):
    bags = GraphBags(make_bags(), GRID)
    first = bags.prepare()
    assert len(builds) == 3
    assert bags.prepare() is first
    assert bags[0].adj is bags[0].adj
    # A worker of a DataLoader gets what is built.
    pickle.loads(pickle.dumps(bags))[1]
    assert len(builds) == 3


def test_on_disk_each_is_built_once_for_all_runs(tmp_path, builds):
    first = GraphBags(make_bags(), GRID, tmp_path / "new")
    first.prepare()
    again = GraphBags(make_bags(), GRID, tmp_path / "new")
    again.prepare()
    assert len(builds) == 3
    assert len(list(tmp_path.rglob("*.pt"))) == 3
    assert not again._built  # nothing is kept in memory
    for one, other, fresh in zip(
        dense(first), dense(again), dense(GraphBags(make_bags(), GRID)), strict=True
    ):
        assert torch.equal(one, fresh)
        assert torch.equal(other, fresh)
    adj = again[1].adj
    assert adj.crow_indices().dtype == adj.col_indices().dtype == torch.int64


@pytest.mark.parametrize(
    ("changed", "build", "files"),
    [
        ({}, GRID, 3),
        ({}, replace(GRID, cache="elsewhere"), 3),  # where a file lies does not name it
        ({"x": None}, GRID, 3),  # features do not count for a grid
        ({"x": None}, AdjacencyBuilder("grid", weight="cosine"), 6),
        ({}, AdjacencyBuilder("grid", neighbours=4), 6),
        ({}, AdjacencyBuilder("grid", normalize="rw"), 6),
        ({"coords": None}, GRID, 6),
    ],
)
def test_a_file_is_named_by_all_that_the_adjacency_depends_on(changed, build, files, tmp_path):
    before = build if build.needs_features else GRID
    GraphBags(make_bags(), before, tmp_path).prepare()
    bags = make_bags()
    for i, bag in enumerate(list(bags)):
        if "x" in changed:
            bags[i] = replace(bag, x=bag.x + 1)
        if "coords" in changed:
            bags[i] = replace(bag, coords=bag.coords * 2)
    GraphBags(bags, build, tmp_path).prepare()
    assert len(list(tmp_path.iterdir())) == files


def test_a_damaged_file_is_built_again(tmp_path):
    GraphBags(make_bags(), GRID, tmp_path).prepare()
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path, content in whole.items():  # the numbers of the neighbours, behind a whole header
        path.write_bytes(
            content.replace(torch.tensor([0, 1], dtype=torch.int32).numpy().tobytes(), b"\xff" * 8)
        )
        assert path.read_bytes() != content
    for one, fresh in zip(
        dense(GraphBags(make_bags(), GRID, tmp_path)),
        dense(GraphBags(make_bags(), GRID)),
        strict=True,
    ):
        assert torch.equal(one, fresh)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_adjacencies_that_bags_bring_along_are_kept_and_checked():
    own = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to_sparse_csr()
    bags = Bags([Bag(torch.zeros(2, 3), adj=own, bag_id="own")])
    kept = GraphBags(bags, None)
    assert kept.prepare() == GraphCounts(2, 1, 0)
    assert kept[0].adj is own
    wrong = Bags([Bag(torch.zeros(2, 3), adj=(3 * own.to_dense()).to_sparse_csr(), bag_id="big")])
    with pytest.raises(ValueError, match="bag 'big': expected a spectral radius of at most 1"):
        GraphBags(wrong, None).prepare()
    mixed = Bags([*bags, Bag(torch.zeros(2, 3), bag_id="bare")])
    with pytest.raises(ValueError, match="bag 'bare': expected an adjacency as in other bags"):
        GraphBags(mixed, None).prepare()


def test_labels_and_covariates_of_the_bags_stay():
    covariates = torch.tensor([[1.0], [2.0], [3.0]])
    bags = BagList(make_bags())
    some = LabelledBags(bags, [2, 0], torch.tensor([1, 0]), covariates[[2, 0]])
    graphs = GraphBags(some, GRID)
    assert graphs.labels.tolist() == [1, 0]
    assert graphs.sizes.tolist() == [len(bags[2]), len(bags[0])]
    graphs.prepare()
    for index, number in enumerate((2, 0)):
        bag = graphs[index]
        assert (bag.bag_id, bag.y) == (bags[number].bag_id, 1 - index)
        assert torch.equal(bag.covariates, covariates[number])
        assert torch.equal(bag.adj.to_dense(), GRID(bags[number].coords).to_dense())


def test_a_builder_wins_over_what_bags_bring_along():
    coords = torch.tensor([[0, 0], [8, 0], [16, 0]])
    bag = Bag(torch.zeros(3, 2), coords=coords, adj=torch.eye(3).to_sparse_csr())
    assert int((GraphBags(Bags([bag]), GRID)[0].adj.to_dense() > 0).sum()) == 4


@pytest.mark.parametrize(
    ("changes", "build", "message"),
    [
        ({"coords": None}, GRID, "bag 'bag 0': expected coords for an adjacency by grid, got none"),
        (
            {},
            AdjacencyBuilder("radius", radius=0.5),
            "bag 'bag 0': expected at least one edge, got none: no two of 3 instances lie within "
            r"radius 4\.04 .*stride .* 8",
        ),
        ({"x": {"a": None}}, AdjacencyBuilder("feature_knn"), "one stream of features.*'a'"),
    ],
)
def test_a_bag_over_which_no_graph_can_be_laid_is_named(changes, build, message):
    bags = make_bags()
    for i, bag in enumerate(list(bags)):
        given = dict(changes)
        if "x" in given:
            given["x"] = {"a": bag.x.flatten(1)}
        bags[i] = replace(bag, **given)
    with pytest.raises(ValueError, match=message):
        GraphBags(bags, build).prepare()


@pytest.mark.parametrize("build", [AdjacencyBuilder("feature_knn"), GRID])
def test_half_precision_has_a_key_too(build, tmp_path):
    bags = make_bags()
    for i, bag in enumerate(list(bags)):
        bags[i] = replace(bag, x=bag.x.bfloat16(), coords=bag.coords.bfloat16())
    stored = GraphBags(bags, build, tmp_path)
    stored.prepare()
    for one, other in zip(dense(stored), dense(GraphBags(bags, build)), strict=True):
        assert torch.equal(one, other)


def test_bags_of_several_streams_form_a_chain():
    bag = Bag({"a": torch.zeros(3, 2), "b": torch.zeros(3, 4)})
    assert GraphBags(Bags([bag]), AdjacencyBuilder("chain")).prepare() == GraphCounts(3, 2, 0)


def test_a_cache_without_a_builder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no cache for adjacencies that the bags bring along"):
        GraphBags(make_bags(), None, tmp_path)


def test_a_line_tells_how_far_it_is(monkeypatch, caplog):
    monkeypatch.setattr(module, "_SECONDS_A_LINE", -1.0)
    with caplog.at_level("INFO"):
        GraphBags(make_bags(), GRID, name="train").prepare()
    assert caplog.messages == [f"graphs of train: {n} of 3" for n in (1, 2, 3)]


class Outlined(Bags):
    """Bags whose coords can be had without reading them."""

    def outline(self, index):
        bag = list.__getitem__(self, index)
        return replace(bag, x=torch.empty(len(bag), 0), y=None)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("build", "reads"),
    [
        (GRID, 0),
        (AdjacencyBuilder("radius", radius=9.0, radius_unit="coords"), 0),
        (AdjacencyBuilder("knn", k=2), 0),
        (AdjacencyBuilder("grid", weight="cosine"), 3),
        (AdjacencyBuilder("feature_knn", k=2), 3),
    ],
)
def test_features_are_read_only_where_they_count(build, reads, cached, tmp_path):
    bags = Outlined(make_bags())
    outlined = GraphBags(bags, build, tmp_path / "a" if cached else None)
    counts = outlined.prepare()
    assert bags.reads == reads
    plain = GraphBags(make_bags(), build, tmp_path / "b" if cached else None)
    assert plain.prepare() == counts
    for one, other in zip(dense(outlined), dense(plain), strict=True):
        assert torch.equal(one, other)
    if cached:  # what stands in a file does not depend on how it came to be built
        names = [{path.name for path in (tmp_path / each).iterdir()} for each in "ab"]
        assert names[0] == names[1]


def test_a_chain_of_an_outline_and_a_bag_that_cannot_be_laid_out():
    bags = Outlined(make_bags(coords=None))
    outlined = GraphBags(bags, AdjacencyBuilder("chain"))
    assert outlined.prepare().edges == 2 + 3
    assert bags.reads == 0
    with pytest.raises(ValueError, match="bag 'bag 0': expected coords for an adjacency by grid"):
        GraphBags(bags, GRID).prepare()


class Changing(Bags):
    """Bags of other instances in each epoch: of the first as many, of the others fewer."""

    epoch = 0

    def __getitem__(self, index):
        bag = super().__getitem__(index)
        if index == 0:
            return replace(
                bag, coords=bag.coords + self.epoch % 2 * torch.tensor([[0, 0], [8, 8], [0, 0]])
            )
        kept = slice(self.epoch % len(bag), None)
        return replace(bag, x=bag.x[kept], coords=bag.coords[kept])

    def set_epoch(self, epoch):
        self.epoch = epoch


@pytest.mark.parametrize("build", [AdjacencyBuilder(m, k=1) for m in ("knn", "feature_knn")])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("prepared", [False, True])
def test_bags_that_differ_by_epoch_have_the_graph_of_their_instances(
    build, cached, prepared, tmp_path, builds
):
    bags = GraphBags(Changing(make_bags()), build, tmp_path if cached else None)
    if prepared:
        bags.prepare()
    plain = Changing(make_bags())
    seen = []
    for epoch in (0, 1, 2, 1, 0):
        set_epoch(bags, epoch)
        plain.epoch = epoch
        for index in range(3):
            bag, wanted = bags[index], plain[index]
            assert torch.equal(bag.x, wanted.x)
            assert torch.equal(bag.adj.to_dense(), build(wanted.coords, wanted.x).to_dense())
        seen.append([len(bags[index]) for index in range(3)])
    assert seen == [[3, 4, 1], [3, 3, 1], [3, 2, 1], [3, 3, 1], [3, 4, 1]]
    # Those of the first epoch are kept, the others are not.
    assert len(list(tmp_path.iterdir())) == (3 if cached else 0)
    assert len(bags._built) == (0 if cached else 3)
    before = len(builds)
    assert [len(bags[index].adj) for index in range(3)] == seen[0]
    assert len(builds) == before


def test_of_features_in_files_too(tmp_path):
    reader = open_reader(plain_folder(tmp_path / "bags", [30, 7]))
    bags = GraphBags(FeatureBags(reader, max_instances_per_bag=10), AdjacencyBuilder("knn", k=2))
    assert bags.prepare().instances == sum(bags.sizes) == 17
    rows = []
    for epoch in (0, 1):
        set_epoch(bags, epoch)
        bag = bags[0]
        assert torch.equal(bag.adj.to_dense(), bags.build(bag.coords).to_dense())
        assert torch.equal(bag.coords, bag_outline(bags, 0).coords)
        rows.append(bag.coords)
    assert not torch.equal(*rows)


@pytest.mark.parametrize(
    "change",
    [
        {"columns": torch.tensor([7, 8])},
        {"crow": torch.zeros(3)},
        {"values": torch.ones(2, 2)},
        {"columns": None},
    ],
)
def test_a_file_that_holds_no_graph_of_the_bag_is_made_again(tmp_path, change):
    bags = make_bags()
    expected = GraphBags(bags, AdjacencyBuilder(), tmp_path)[0].adj
    for path in tmp_path.glob("*.pt"):
        stored = torch.load(path, weights_only=True)
        stored["tensors"] |= change
        stored["tensors"] = {name: t for name, t in stored["tensors"].items() if t is not None}
        torch.save(stored, path)
    found = GraphBags(bags, AdjacencyBuilder(), tmp_path)[0].adj
    assert torch.equal(found.to_dense(), expected.to_dense())
    again = GraphBags(bags, AdjacencyBuilder(), tmp_path)[0].adj
    assert torch.equal(again.to_dense(), expected.to_dense())
