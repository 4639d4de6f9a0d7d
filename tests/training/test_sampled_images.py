"""Attention sampling under a real trainer, on images of a few pixels."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch.nn.functional import avg_pool2d

from milforge.data import (
    ArraySource,
    BagSplits,
    LargeImage,
    Loader,
    TensorSource,
    collate_images,
    low_resolution,
    megapixel,
)
from milforge.data.images.sources import LevelSource
from milforge.models import SamplingNetwork
from milforge.nn import AttentionCNN, PatchCNN
from milforge.tasks import Binary, Regression
from milforge.training import MILDataModule, MILModule
from milforge.training.seeds import draw_seed
from stated import attached

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec"),
]

SIDE, SCALE, PATCH = 60, 5, (20, 22)


class Stripes:
    """Noise with a patch of stripes somewhere: across (0) or down (1)."""

    def __init__(self, name, count, labelled=True):
        self.name = name
        self.labels = torch.arange(count) % 2 if labelled else None
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rng = np.random.default_rng((ord(self.name[1]), index))
        image = rng.integers(0, 60, (SIDE, SIDE), dtype=np.uint8)
        row, column = rng.integers(0, SIDE - 16, 2)
        stripes = np.repeat(np.array([255, 0, 255, 0], np.uint8), 4)[:, None].repeat(16, 1)
        image[row : row + 16, column : column + 16] = stripes.T if index % 2 else stripes
        high = torch.from_numpy(image)[None]
        low = avg_pool2d(high.float() / 255, SCALE)
        y = None if self.labels is None else int(self.labels[index])
        return LargeImage(low, TensorSource(high), y, f"{self.name}_{index}")


NAMES = ("across", "down")


def stripes_data(train=8, val=2, test=15, labelled=True, seed=0, **loader):
    """As few images as a test needs."""
    counts = {"train": train, "val": val, "test": test}
    parts = {name: Stripes(name, count, labelled) for name, count in counts.items()}
    return MILDataModule(
        lambda: BagSplits(**parts, class_names=NAMES), loader=Loader(**loader), seed=seed
    )


def known_task():
    return Binary().from_state({"kind": "binary", "class_names": NAMES, "weights": None})


def make_module(seed=0, lr=5e-3, optimizer=torch.optim.Adam, **options):
    torch.manual_seed(0)
    network = SamplingNetwork(
        (1,),
        1,
        attention=partial(AttentionCNN, hidden=(4,)),
        feature=partial(PatchCNN, width=16, stride=2, length=10.0),
        **{"patch_size": PATCH, "n_patches": 3, "entropy": 1e-2, **options},
    )
    return MILModule(
        network,
        known_task(),
        optimizer=partial(optimizer, lr=lr),
        stored={"config": {"seed": seed}},
        seed=seed,
    )


def make_trainer(max_epochs=1, **options):
    return L.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        **options,
    )


def test_metrics(module, data):
    (metrics,) = make_trainer().test(module, data, verbose=False)
    return metrics


test_metrics.__test__ = False


def batch_of(images, numbers):
    return collate_images([images[i] for i in numbers])


def test_it_learns_an_easy_case():
    data = stripes_data(train=64, val=4, test=40, batch_size=8)
    module = make_module(lr=5e-3, n_patches=8, entropy=0.0)
    make_trainer(10).fit(module, data)
    losses = [value for _, value in module.history["train/loss"]]
    assert len(losses) == 10
    assert losses[0] > 0.5
    assert losses[-1] < 0.1
    assert test_metrics(module, data)["test/accuracy"] > 0.95
    # Attention has found the stripes: it began all over the image.
    spread = [value for _, value in module.history["train/attention_entropy"]]
    assert spread[0] == pytest.approx(np.log(144), abs=0.01)
    assert spread[-1] < np.log(144) - 1


def patches_seen(seed, batch_size, order, epochs=2):
    """What a run that changes no weight looked at, by epoch and image."""
    module = make_module(seed, lr=0.0, optimizer=torch.optim.SGD)
    seen = {}

    def watch(network, args, output):
        for name, patches in zip(args[0].bag_id, output.details["patches"], strict=True):
            when = module.current_epoch if module.training else "evaluation"
            seen[when, name] = patches

    module.network.register_forward_hook(watch)
    data = stripes_data(train=7, val=5, test=1, batch_size=batch_size, seed=order)
    make_trainer(epochs, num_sanity_val_steps=0).fit(module, data)
    assert len(seen) == 7 * epochs + 5
    return seen


def test_patches_depend_on_seed_epoch_and_name_alone():
    first = patches_seen(seed=0, batch_size=7, order=0)
    other_batches = patches_seen(seed=0, batch_size=2, order=1)
    assert first.keys() == other_batches.keys()
    for key, patches in first.items():
        assert torch.equal(patches, other_batches[key]), key
    other_seed = patches_seen(seed=1, batch_size=7, order=0)
    for (epoch, name), patches in first.items():
        same = torch.equal(patches, other_seed[epoch, name])
        assert same == (epoch == "evaluation"), (epoch, name)
        if epoch == 0:
            assert not torch.equal(patches, first[1, name])


def test_images_have_random_numbers_of_their_own():
    module = attached(make_module(), current_epoch=3)
    image = Stripes("train", 4)[0]
    twins = [LargeImage(image.low, image.high, 0, name) for name in ("a", "b", "a")]
    seeds = module.prepared(collate_images(twins)).seeds
    assert seeds.dtype == torch.int64
    assert seeds[0] == seeds[2] != seeds[1]
    assert module.eval().prepared(collate_images(twins)).seeds[0] != seeds[0]


def test_seeds_are_spread_over_all_that_a_generator_takes():
    seeds = [draw_seed(f"0 {epoch} image {i}") for epoch in range(10) for i in range(100)]
    assert len(set(seeds)) == 1000
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert np.mean(seeds) / 2**63 == pytest.approx(0.5, abs=0.05)
    # A key is no sum of its parts, and the same on every machine.
    assert draw_seed("1 11 a") != draw_seed("11 1 a")
    assert draw_seed("") == 0xE4A6A0577479B2B4 >> 1


@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
def test_evaluation_depends_on_neither_the_batch_nor_the_seed(inference):
    module = make_module(inference=inference)
    one = test_metrics(module, stripes_data(eval_batch_size=1))
    assert {"test/loss", "test/auroc", "test/accuracy", "test/attention_entropy"} <= set(one)
    seven = test_metrics(module, stripes_data(eval_batch_size=7))
    assert seven == pytest.approx(one, rel=1e-6, abs=1e-6)
    assert test_metrics(module, stripes_data(eval_batch_size=7)) == seven
    other = make_module(seed=5, inference=inference)
    other.load_state_dict(module.state_dict())
    assert test_metrics(other, stripes_data(eval_batch_size=7)) == seven


def test_evaluation_leaves_the_random_numbers_of_training_alone():
    module, batch = make_module().eval(), batch_of(Stripes("test", 3), range(3))
    attached(module)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    module.test_step(batch, 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("stage", ["train", "val", "test"])
def test_the_entropy_of_attention_is_that_of_scipy(stage):
    module = make_module(lr=0.0, optimizer=torch.optim.SGD)
    data = stripes_data(train=8, val=7, test=5, batch_size=3)
    make_trainer().fit(module, data)
    values = {name: points[-1][1] for name, points in module.history.items()}
    values |= test_metrics(module, data)
    images = data.parts[stage]
    with torch.no_grad():
        maps = module.network.sampling.attention(batch_of(images, range(len(images))).x_low)
    expected = np.mean([entropy(each.flatten().double().numpy()) for each in maps])
    assert values[f"{stage}/attention_entropy"] == pytest.approx(expected, rel=1e-5)


def step(module, batch, **trainer):
    return attached(module, **trainer).training_step(batch, 0).detach()


def test_the_loss_is_cross_entropy_and_the_penalty():
    module = make_module(entropy=0.5)
    batch = batch_of(Stripes("train", 5), range(5))
    loss = step(module, batch)
    output = module(module.prepared(batch))
    p = output.logits[:, 0].detach().double().sigmoid()
    losses = -torch.where(batch.y == 1, p, 1 - p).log()
    maps = output.details["attention"].detach().flatten(1).double()
    negative = -sum(entropy(each.numpy()) for each in maps) / 5
    assert float(loss) == pytest.approx(float(losses.mean()) + 0.5 * negative, rel=1e-4)
    logged = module.train_metrics.compute()["train/loss"]
    assert float(logged) == pytest.approx(float(losses.mean()), rel=1e-5)


def test_the_losses_of_uneven_shards_average_to_that_of_the_whole_batch():
    """Three images on one process and two on the other: 2.5 in the mean."""
    images = Stripes("train", 5)
    whole = step(make_module(entropy=0.5), batch_of(images, range(5)))
    strategy = SimpleNamespace(reduce=lambda counts: torch.tensor([2.5, 0.0]))
    shards = [
        step(make_module(entropy=0.5), batch_of(images, part), world_size=2, strategy=strategy)
        for part in (range(3), range(3, 5))
    ]
    torch.testing.assert_close(sum(shards) / 2, whole)


def joined(batches):
    """What was predicted of all batches: columns, details and the rest by their names."""
    flat = [{**each, **each["columns"], **each["details"]} for each in batches]
    wanted = [name for name in flat[0] if name not in ("columns", "details")]
    # The details hold weights and coords of each image; those of the instances stand beside them.
    instances = {
        name: torch.cat([each[name] for each in batches]) for name in ("weights", "coords")
    }
    return {name: torch.cat([each[name] for each in flat]) for name in wanted} | instances


@pytest.mark.parametrize("labelled", [True, False])
def test_predictions_tell_the_patches_and_where_they_lie(labelled):
    module, data = make_module(), stripes_data(test=5, eval_batch_size=2, labelled=labelled)
    batches = make_trainer().predict(module, data)
    assert [len(each["columns"]["probability"]) for each in batches] == [2, 2, 1]
    told = joined(batches)
    assert "y_inst" not in told
    assert told["probability"].shape == (5, 2)
    assert ((told["probability"] > 0) & (told["probability"] < 1)).all()
    assert told["sizes"].tolist() == [3] * 5
    assert told["patches"].shape == (5, 3, 1, *PATCH)
    assert told["attention"].shape == (5, 12, 12)
    torch.testing.assert_close(told["scores"], told["weights"].log())
    torch.testing.assert_close(told["attention"].sum((1, 2)), torch.ones(5))
    x, y = told["coords"].reshape(5, 3, 2).long().unbind(2)
    assert torch.equal(torch.stack([y, x], 2), told["offsets"])
    for i in range(5):
        image = data.parts["test"][i].high.image[0].float() / 255
        wide = torch.nn.functional.pad(image, (20, 22, 20, 20))  # outside there are zeros
        for k in range(3):
            row, column = int(y[i, k]), int(x[i, k])
            patch = wide[row + 20 : row + 40, column + 20 : column + 42]
            torch.testing.assert_close(told["patches"][i, k, 0], patch)
            cell = (row + 10) // SCALE, (column + 11) // SCALE
            weight = told["weights"][3 * i + k]
            torch.testing.assert_close(weight, told["attention"][i][cell])
        # Without replacement no place is looked at twice.
        assert len(set(zip(x[i].tolist(), y[i].tolist(), strict=True))) == 3


def test_predictions_tell_places_at_full_resolution_of_patches_of_a_level():
    module, image = make_module().eval(), stripes_data(test=1).parts["test"][0]
    source = SimpleNamespace(
        name="a",
        shape=(1, 4 * SIDE, 4 * SIDE),
        levels=((4 * SIDE, 4 * SIDE), (SIDE, SIDE)),
        read=lambda offsets, size, level: image.high.read(offsets, size),
    )
    full, half = (
        module.predict_step(collate_images([replace(image, high=high)]), 0)
        for high in (image.high, LevelSource(source, 1))
    )
    assert torch.equal(half["coords"], 4 * full["coords"])
    assert torch.equal(half["details"]["offsets"], full["details"]["offsets"])


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("stored", [True, False])
def test_images_of_any_float_are_looked_at_in_single_precision(tmp_path, dtype, stored):
    # Of quarters and areas of 4 x 4, so that float16 rounds nothing.
    pixels = np.random.default_rng(0).integers(0, 4, (3, SIDE, SIDE)) / 4

    def results(dtype):
        images = []
        for i, image in enumerate(pixels.astype(dtype)):
            path = tmp_path / f"{i}.npy"
            np.save(path, image)
            high = ArraySource(path) if stored else TensorSource(torch.from_numpy(image)[None])
            low = low_resolution(high, scale=0.25)
            assert low.numpy().dtype == dtype
            images.append(LargeImage(low, high, i % 2, str(i)))
        batch, module = collate_images(images), make_module()
        return step(module, batch), module.eval().test_step(batch, 0)

    torch.testing.assert_close(results(dtype), results(np.float32))


def test_what_steps_tell_needs_no_gradient_and_is_on_the_cpu():
    module = attached(make_module())
    told = module.eval().validation_step(batch_of(Stripes("val", 3), range(3)), 0)
    columns, details = told.pop("columns"), told.pop("details")
    told = {**told, **columns, **details}
    assert {"logits", "probability", "patches", "attention", "sizes"} < set(told)
    for name, value in told.items():
        assert not value.requires_grad, name
        assert value.device.type == "cpu", name


def test_images_without_labels_cannot_be_evaluated():
    module = attached(make_module())
    with pytest.raises(ValueError, match="expected labelled bags to train or evaluate"):
        module.test_step(batch_of(Stripes("test", 2, labelled=False), range(2)), 0)


def test_a_checkpoint_brings_back_the_run(tmp_path):
    data = stripes_data(train=16, test=9, batch_size=4)
    module, trainer = make_module(seed=7), make_trainer(2)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    history = {name: list(points) for name, points in module.history.items()}
    expected = test_metrics(module, data)
    checkpoint = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert checkpoint["milforge"]["config"] == {"seed": 7}
    other = make_module()
    assert test_metrics(other, data) != expected
    other.load_state_dict(checkpoint["state_dict"])
    assert test_metrics(other, data) == expected
    other.on_load_checkpoint(checkpoint)
    assert other.history == history
    assert [epoch for epoch, _ in other.history["val/attention_entropy"]] == [0, 1]


def test_a_run_that_goes_on_draws_what_the_whole_run_draws(tmp_path):
    """Of two epochs the second, from a checkpoint of the first."""
    data = stripes_data(train=8, batch_size=4)
    whole = make_module(seed=1)
    make_trainer(2).fit(whole, data)
    half, trainer = make_module(seed=1), make_trainer(1)
    trainer.fit(half, data)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest = make_module(seed=1)
    path = tmp_path / "half.ckpt"
    make_trainer(2).fit(
        rest, stripes_data(train=8, batch_size=4), ckpt_path=path, weights_only=True
    )
    torch.testing.assert_close(rest.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_numbers_are_predicted_of_images_as_of_bags():
    class Numbers(Stripes):
        def __init__(self, name, count):
            super().__init__(name, count)
            self.labels = torch.arange(count) * 10.0 + 5

    parts = {name: Numbers(name, 6) for name in ("train", "val", "test")}
    data = MILDataModule(lambda: BagSplits(**parts), task=Regression(), loader=Loader(batch_size=3))
    network = make_module().network
    module = MILModule(network, data.task, optimizer=partial(torch.optim.SGD, lr=1e-3))
    make_trainer().fit(module, data)
    values = test_metrics(module, data)
    assert {"test/loss", "test/mae", "test/attention_entropy"} < set(values)
    (told, _) = make_trainer().predict(module, data)
    numbers = torch.arange(6) * 10.0 + 5
    expected = told["columns"]["logits"][:, 0] * numbers.std(correction=0) + numbers.mean()
    torch.testing.assert_close(told["columns"]["prediction"], expected)


def test_a_data_module_of_images_knows_its_channels_and_tells_itself_apart():
    options = {"train": 6, "val": 2, "test": 2, "size": 120, "low_size": 24, "noise": 1}
    options |= {"digit_size": 16, "digits": 4, "agree": 2}

    def make(seed):
        return MILDataModule(
            partial(megapixel, "digits", **options, seed=seed),
            loader=Loader(batch_size=4, eval_batch_size=2),
        )

    data = make(1)
    assert data.instance_shape == (1,)
    assert (data.task.kind, len(data.task.class_names)) == ("multiclass", 10)
    canvas = data.parts["train"][0].high
    assert canvas.size == (120, 120)
    assert [len(canvas.glyphs), canvas.glyphs[0].shape] == [5, (16, 16)]
    assert [len(batch) for batch in data.train_dataloader()] == [4, 2]
    batch = next(iter(data.val_dataloader()))
    assert batch.bag_id == [data.parts["val"][i].bag_id for i in range(2)]
    assert data.standardiser("auto") is None
    description = data.description()
    assert description["bags"] == {"train": 6, "val": 2, "test": 2}
    assert description["unreadable_windows"] == {}
    assert make(1).fingerprint() == description["fingerprint"] != make(2).fingerprint()
