"""That contributions sum to the logits, checked and said."""

import numpy as np

from milforge.maps.kinds import Floats

SUMS = 1e-4  # of the sum of the sizes of the contributions, which are float32 in part


def check_sum(contributions: Floats, offset: Floats, logits: Floats) -> None:
    """Checks that contributions `(N, O)` and the offset `(O,)` sum to the logits `(O,)`.

    Raises:
        ValueError: where they do not.
    """
    gap = np.abs(contributions.sum(axis=0) + offset - logits)
    if not (gap <= SUMS * (np.abs(contributions).sum(axis=0) + np.abs(offset))).all():
        raise ValueError(
            "the contributions that the model states do not sum to its logits (they are "
            f"{gap.max():.3g} apart): mend its method contributions"
        )


def sum_in_words(offset: Floats, logits: Floats, models: int) -> str:
    """What they sum to.

    Example:
        >>> sum_in_words(np.array([0.5]), np.array([2.0]), 1)
        'The contributions of all tiles and the offset 0.5 sum to the logit 2.'
    """
    mean = (
        " It is the mean of the models' logits, not the logit of their mean probability."
        if models > 1
        else ""
    )
    said, total = (", ".join(f"{each:.4g}" for each in values) for values in (offset, logits))
    return f"The contributions of all tiles and the offset {said} sum to the logit {total}.{mean}"
