"""What milforge-inspect prints of the memory of a training step."""

from collections.abc import Sequence

import torch

from milforge.api.compose import compose
from milforge.api.forecast import Forecast, forecast
from milforge.cli.describe_bags import in_words, outputs_of, wrapped
from milforge.config.messages import explain
from milforge.data.features.inspection import Inspection

_NOT_COUNTED = (
    "not counted: what operators use inside, what the allocator of the device keeps, CUDA itself"
)


def describe_step(
    found: Inspection, overrides: Sequence[str], classes: Sequence[str] | None
) -> list[str]:
    """The memory of a step with the largest batch, line by line.

    Args:
        found: the bags; those without a fault count.
        overrides: of milforge-train, such as `model=transmil`.
        classes: the names of the classes; None finds them.

    Raises:
        ValueError: where the config does not fit the bags, or itself.
    """
    headers = [found.headers[bag_id] for bag_id in found.usable_ids]
    if not headers:
        return ["step       not known: no bag is without a fault"]
    first = headers[0]
    halves = {name: stored == "float16" for name, stored in first.dtypes.items()}
    try:
        expected = forecast(
            compose("train", ["data=feature_bags", "data.root=.", *overrides]),
            [header.instances for header in headers],
            first.widths,
            torch.float16 if all(halves.values()) else torch.float32,
            num_outputs=outputs_of(found.labels, classes),
            coords_axes=first.coords_axes,
        )
    except Exception as error:
        sentence = explain(error, "train")
        if sentence is None:
            raise
        raise ValueError(f"--step: {sentence}") from error
    return [
        *wrapped("step", _in_words(expected)),
        *wrapped("", _NOT_COUNTED),
    ]


def _in_words(expected: Forecast) -> str:
    step = expected.step
    bags = len(expected.sizes)
    ring = (
        "processes of the loader, or what it keeps, not counted"
        if expected.batches is None
        else f"{in_words(expected.batches * expected.stored)} in the memory of the machine for "
        f"{expected.batches} batches of the loader"
    )
    return (
        f"{in_words(step.total)} on the device for {bags} {'bag' if bags == 1 else 'bags'} of "
        f"{sum(expected.sizes):,} instances, the largest batch: {in_words(step.batch)} batch, "
        f"{in_words(step.peak)} forward and backward, {in_words(step.weights)} weights and "
        f"optimiser; {ring}"
    )
