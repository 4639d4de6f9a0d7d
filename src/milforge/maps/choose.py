"""Which bags are mapped."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milforge.maps.kinds import Floats

CHOICES = ("wrong", "most_certain")  # what may stand for names
EACH = 3  # of the worst, and of the best; twice as many of the most certain


@dataclass(frozen=True)
class Judged:
    """What is known of the bags, NaN where it is not, `(n,)` each.

    Attributes:
        names: of the bags.
        error: how far a prediction is from the label: one less the probability of the true class,
            or the distance of a number.
        wrong: whether the predicted class is another than the true one: 0 or 1.
        certainty: the largest probability.
    """

    names: Sequence[str]
    error: Floats
    wrong: Floats
    certainty: Floats


def choose(wanted: str | Sequence[str] | None, bags: Judged) -> tuple[list[int], dict[str, str]]:
    """The numbers of the bags to map, and why names that are asked for are not among them.

    Args:
        wanted: `wrong`, `most_certain`, names, or None: the worst and the best.
        bags: what is known of them.

    Raises:
        ValueError: where what is asked for cannot be known of these bags.
    """
    if isinstance(wanted, str) and wanted not in CHOICES:
        wanted = [wanted]
    if wanted == "wrong":
        if np.isnan(bags.wrong).all():
            raise ValueError(
                "bags=wrong: no bag has both a label and a predicted class; name the bags"
            )
        order = _sorted(bags.error)
        return [i for i in order if bags.wrong[i] == 1], {}
    if wanted == "most_certain":
        if np.isnan(bags.certainty).all():
            raise ValueError("bags=most_certain: the task has no probabilities; name the bags")
        return _sorted(bags.certainty)[: 2 * EACH], {}
    if wanted is not None:
        places = {name: i for i, name in enumerate(bags.names)}
        missing = "there is no such bag among those that the checkpoint is to predict"
        found = dict.fromkeys(places[each] for each in wanted if each in places)
        return list(found), {each: missing for each in wanted if each not in places}
    order = _sorted(bags.error)
    if not order:  # without labels
        order = _sorted(bags.certainty) or list(range(len(bags.names)))
        return order[: 2 * EACH], {}
    worst = order[:EACH]
    return worst + [i for i in order[::-1][:EACH] if i not in worst], {}


def _sorted(values: Floats) -> list[int]:
    """The numbers of those that are known, the largest first."""
    known = [i for i in range(len(values)) if not np.isnan(values[i])]
    return sorted(known, key=lambda i: -values[i])
