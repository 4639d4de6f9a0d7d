"""What is drawn of attention sampling, and of which epochs."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from milforge.callbacks import SamplingFigures
from milforge.data import Bag, Canvas, LargeImage, collate_bags, collate_images
from milforge.models import SamplingNetwork
from milforge.nn import AttentionCNN, PatchCNN
from milforge.tasks import Multiclass
from milforge.training import Ensemble, MILModule
from thinned import thinned

PNG = b"\x89PNG\r\n\x1a\n"
STATE = {"kind": "multiclass", "class_names": ("a", "b", "c"), "weights": None}
TASK = Multiclass().from_state(STATE)


def make_batch(first=0, count=2, labelled=True):
    images = []
    for i in range(first, first + count):
        canvas = Canvas((60, 80), [np.full((9, 9), 200, np.uint8)], np.array([[5 * i, 7 * i]]))
        low = torch.full((1, 6, 8), i / 10)
        images.append(LargeImage(low, canvas, i % 3 if labelled else None, f"image {i}"))
    return collate_images(images)


def outputs_of(batch, epoch=0, n=3):
    """As the module returns them of images; every map is of its image and epoch."""
    count = len(batch)
    numbers = torch.tensor([int(name.split()[1]) for name in batch.bag_id])
    attention = torch.ones(count, 6, 8)
    attention[:, 0, 0] += numbers + 10 * epoch
    attention /= attention.sum((1, 2), keepdim=True)
    return {
        "columns": {"probability": torch.tensor([[0.25, 0.5, 0.25]] * count)},
        "details": {
            "weights": torch.linspace(0.1, 0.3, count * n).reshape(count, n),
            "attention": attention,
            "offsets": numbers[:, None, None] + torch.arange(2 * n).reshape(n, 2),
            "patches": torch.rand(count, n, 1, 10, 12),
            "windows": torch.tensor([[20, 24]] * count),
        },
    }


def make_trainer(epoch=0, **options):
    options = {"sanity_checking": False, "is_global_zero": True, "loggers": [], **options}
    return SimpleNamespace(current_epoch=epoch, global_step=0, **options)


def make_module(receptive_field=0, members=1):
    network = SamplingNetwork(
        (1,),
        3,
        attention=AttentionCNN,
        feature=partial(PatchCNN, width=2),
        receptive_field=receptive_field,
    )
    if members == 1:
        return SimpleNamespace(task=TASK, network=network)
    return Ensemble([MILModule(network, TASK) for _ in range(members)])


def validate(figures, epoch, batches, **options):
    trainer = make_trainer(epoch, **options)
    for number, batch in enumerate(batches):
        outputs = outputs_of(batch, epoch)
        figures.on_validation_batch_end(trainer, make_module(), outputs, batch, number)
        outputs["details"]["attention"].fill_(99)  # it has kept a copy
    figures.on_validation_epoch_end(trainer, make_module())


def draw_test(figures, batches, receptive_field=0, members=1, **options):
    trainer, module = make_trainer(**options), make_module(receptive_field, members)
    for number, batch in enumerate(batches):
        figures.on_test_batch_end(trainer, module, outputs_of(batch), batch, number)
    figures.on_test_epoch_end(trainer, module)


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of both plots, in place of their pictures."""
    calls = []

    def keep(name):
        def plot(*args, **kwargs):
            calls.append((name, args, kwargs))
            raise ValueError("kept")

        return plot

    for name in ("plot_attention_over_epochs", "plot_sampled_patches"):
        monkeypatch.setattr(f"milforge.callbacks.sampling_figures.{name}", keep(name))
    return calls


def files(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_both_figures_are_written(tmp_path):
    figures = SamplingFigures(tmp_path)
    for epoch in range(3):
        validate(figures, epoch, [make_batch(), make_batch(2)])
    assert files(tmp_path) == set()
    figures.on_fit_end(make_trainer(), make_module())
    assert files(tmp_path) == {"attention_epochs.png"}
    draw_test(figures, [make_batch(), make_batch(2)])
    assert files(tmp_path) == {"attention_epochs.png", "sampled_patches.png"}
    assert all(path.read_bytes().startswith(PNG) for path in tmp_path.iterdir())


@pytest.mark.parametrize("epochs", [range(1), range(2)])
def test_attention_that_never_left_uniform_is_said(tmp_path, caplog, epochs):
    figures = SamplingFigures(tmp_path, images=1)
    for epoch in epochs:
        validate(figures, epoch, [make_batch(0, 1)])  # uniform in epoch 0 alone
    figures.on_fit_end(make_trainer(), make_module())
    told = "attention never left uniform in 1 epoch: " in caplog.text
    assert told == (len(epochs) == 1)


def on_glass(batch, outputs):
    """The same where the first two of the six rows alone are tissue."""
    allowed = torch.zeros(len(batch), 6, 8, dtype=torch.bool)
    allowed[:, :2] = True
    attention = outputs["details"]["attention"] * allowed
    attention /= attention.sum((1, 2), keepdim=True)
    details = {**outputs["details"], "attention": attention, "allowed": allowed}
    return {**outputs, "details": details}


@pytest.mark.parametrize("epochs", [1, 2])
def test_on_a_slide_it_is_uniform_over_its_tissue(tmp_path, caplog, drawn, epochs):
    figures = SamplingFigures(tmp_path, images=1)
    batch = make_batch(0, 1)
    for epoch in range(epochs):
        outputs = on_glass(batch, outputs_of(batch, epoch))
        figures.on_validation_batch_end(make_trainer(epoch), make_module(), outputs, batch, 0)
        figures.on_validation_epoch_end(make_trainer(epoch), make_module())
    saved = figures.state_dict()
    figures = SamplingFigures(tmp_path, images=1)
    figures.load_state_dict(saved)
    with pytest.warns(UserWarning, match="kept"):
        figures.on_fit_end(make_trainer(), make_module())
    assert ("attention never left uniform" in caplog.text) == (epochs == 1)
    (allowed,) = drawn[0][2]["allowed"]
    assert allowed.tolist() == [[True] * 8] * 2 + [[False] * 8] * 4


def test_the_patches_of_a_slide_are_drawn_with_what_they_show(tmp_path, drawn):
    figures, batch = SamplingFigures(tmp_path, images=1), make_batch(0, 1)
    outputs = on_glass(batch, outputs_of(batch))
    figures.on_test_batch_end(make_trainer(), make_module(), outputs, batch, 0)
    with pytest.warns(UserWarning, match="kept"):
        figures.on_test_epoch_end(make_trainer(), make_module())
    ((_, ((image,),), _),) = drawn
    assert image.window == (20, 24)
    assert torch.equal(image.allowed, outputs["details"]["allowed"][0])


def epochs_drawn(figures, drawn):
    with pytest.warns(UserWarning, match="figure attention_epochs was not drawn: kept"):
        figures.on_fit_end(make_trainer(), make_module(receptive_field=2))
    ((_, (views, maps, epochs, names), options),) = drawn
    assert options == {"receptive_field": 2, "allowed": None}
    return views, maps, epochs, names


def test_the_first_images_of_validation_are_followed(tmp_path, drawn):
    figures = SamplingFigures(tmp_path, images=3)
    validate(figures, 0, [make_batch()], sanity_checking=True)  # which is no epoch
    batches = [make_batch(), make_batch(2), make_batch(4)]
    for epoch in range(2):
        validate(figures, epoch, batches)
    views, maps, epochs, names = epochs_drawn(figures, drawn)
    assert epochs == [0, 1]
    assert names == ["image 0", "image 1", "image 2"]
    for number, view in enumerate(views):
        assert torch.equal(view, torch.full((1, 6, 8), number / 10))
    expected = [
        outputs_of(make_batch(0, 3), epoch)["details"]["attention"].unbind() for epoch in range(2)
    ]
    torch.testing.assert_close([tuple(each) for each in maps], expected)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("count", thinned([16, 1, 15, 18, 17, 31, 32, 33, 100, 47, 64, 65]))
def test_many_epochs_are_thinned_evenly_and_the_last_is_kept(tmp_path, drawn, count, cut):
    figures = SamplingFigures(tmp_path, images=1)
    for epoch in range(count):
        if cut:  # the run is, and goes on in another process from what torch loads safely
            torch.save(figures.state_dict(), tmp_path / "state.pt")
            figures = SamplingFigures(tmp_path, images=1)
            figures.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        validate(figures, epoch, [make_batch(0, 1)])
    _, maps, epochs, _ = epochs_drawn(figures, drawn)
    assert epochs[0] == 0
    assert epochs[-1] == count - 1
    assert min(count, 8) <= len(epochs) <= 17
    steps = set(np.diff(epochs[:-1]).tolist())
    assert len(steps) <= 1  # one distance; only the last epoch may be nearer
    if steps:
        assert epochs[-1] - epochs[-2] <= steps.pop()
    for epoch, (attention,) in zip(epochs, maps, strict=True):
        expected = outputs_of(make_batch(0, 1), epoch)["details"]["attention"][0]
        torch.testing.assert_close(attention, expected)


def test_validation_every_few_epochs_is_thinned_alike(tmp_path, drawn):
    figures = SamplingFigures(tmp_path, images=1)
    for epoch in range(4, 200, 5):
        validate(figures, epoch, [make_batch(0, 1)])
    assert epochs_drawn(figures, drawn)[2] == [*range(4, 199, 20), 199]


@pytest.mark.parametrize("members", [1, 2])
def test_the_first_test_images_are_drawn_in_words(tmp_path, drawn, members):
    """Of an ensemble too, whose patches are those of its first member."""
    figures = SamplingFigures(tmp_path, images=3)
    batches = [make_batch(), make_batch(2)]
    with pytest.warns(UserWarning, match="figure sampled_patches was not drawn: kept"):
        draw_test(figures, batches, receptive_field=2, members=members)
    ((_, (images,), _),) = drawn
    assert [image.bag_id for image in images] == ["image 0", "image 1", "image 2"]
    image, outputs = images[1], outputs_of(batches[0])["details"]
    assert (image.y, image.prediction, image.probability) == ("b", "b", 0.5)
    assert image.high_size == (60, 80)
    assert image.receptive_field == 2
    assert torch.equal(image.low, batches[0].x_low[1])
    assert torch.equal(image.attention, outputs["attention"][1])
    assert torch.equal(image.offsets, outputs["offsets"][1])
    assert torch.equal(image.probabilities, outputs["weights"][1])
    assert image.patches.shape == (3, 1, 10, 12)
    assert (images[2].y, images[2].prediction) == ("c", "b")


def test_patches_are_held_without_the_rest_of_their_batch(tmp_path, drawn):
    figures = SamplingFigures(tmp_path, images=1)
    with pytest.warns(UserWarning, match="kept"):
        draw_test(figures, [make_batch(0, 9)])
    ((_, ((image,),), _),) = drawn
    for part in (image.low, image.patches, image.attention):
        assert part.untyped_storage().nbytes() == part.nbytes


def test_each_test_is_drawn_for_itself(tmp_path, drawn):
    figures = SamplingFigures(tmp_path, images=2)
    for batch in (make_batch(), make_batch(5)):
        with pytest.warns(UserWarning, match="kept"):
            draw_test(figures, [batch])
    names = [[image.bag_id for image in images] for _, (images,), _ in drawn]
    assert names == [["image 0", "image 1"], ["image 5", "image 6"]]


def follow(figures, batches, **options):
    for epoch in range(2):
        validate(figures, epoch, batches, **options)
    figures.on_fit_end(make_trainer(**options), make_module())


def test_nothing_is_drawn_where_nothing_is_asked_for(tmp_path):
    figures = SamplingFigures(tmp_path, images=0)
    follow(figures, [make_batch()])
    draw_test(figures, [make_batch()])
    assert files(tmp_path) == set()


def test_nothing_is_drawn_of_bags(tmp_path):
    check_nothing_drawn(tmp_path, collate_bags([Bag(torch.zeros(3, 2), y=1)]))


def test_nothing_is_drawn_of_images_of_which_the_network_tells_no_patches(tmp_path):
    check_nothing_drawn(tmp_path, make_batch(0, 1))


def check_nothing_drawn(tmp_path, batch):
    figures, module = SamplingFigures(tmp_path), SimpleNamespace(task=TASK)
    trainer = make_trainer()
    columns = {"probability": torch.tensor([[0.5, 0.25, 0.25]])}
    told = {"columns": columns, "sizes": torch.tensor([3]), "details": {}}
    figures.on_validation_batch_end(trainer, module, told, batch, 0)
    figures.on_validation_epoch_end(trainer, module)
    figures.on_fit_end(trainer, module)
    figures.on_test_batch_end(trainer, module, told, batch, 0)
    figures.on_test_epoch_end(trainer, module)
    assert files(tmp_path) == set()


def test_one_process_draws(tmp_path):
    figures = SamplingFigures(tmp_path)
    follow(figures, [make_batch()], is_global_zero=False)
    draw_test(figures, [make_batch()], is_global_zero=False)
    assert files(tmp_path) == set()


def test_images_without_labels_are_not_drawn_after_a_test(tmp_path):
    draw_test(SamplingFigures(tmp_path), [make_batch(labelled=False)])
    assert files(tmp_path) == set()


def test_a_diverged_model_costs_its_figures_alone(tmp_path):
    figures, batch = SamplingFigures(tmp_path), make_batch()
    nan = {
        key: {
            name: torch.full_like(value, torch.nan) if value.is_floating_point() else value
            for name, value in values.items()
        }
        for key, values in outputs_of(batch).items()
    }
    trainer, module = make_trainer(), make_module()
    figures.on_validation_batch_end(trainer, module, nan, batch, 0)
    figures.on_validation_epoch_end(trainer, module)
    with pytest.warns(UserWarning, match="figure attention_epochs was not drawn"):
        figures.on_fit_end(trainer, module)
    figures.on_test_batch_end(trainer, module, nan, batch, 0)
    with pytest.warns(UserWarning, match="figure sampled_patches was not drawn"):
        figures.on_test_epoch_end(trainer, module)
    assert files(tmp_path) == set()
