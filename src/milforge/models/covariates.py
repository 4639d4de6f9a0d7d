"""Covariates of bags, as networks are given them."""

from torch import Tensor

from milforge.data import BagBatch


def check_covariates(wanted: bool, count: int) -> int:
    """How many covariates a network sees: all of them, or none.

    Args:
        wanted: whether it sees any.
        count: number of covariates that each bag has.

    Raises:
        ValueError: where it is to see some and there are none.
    """
    if wanted and not count:
        raise ValueError(
            "expected bags with covariates for model.covariates=true, got none: give "
            "data.covariates, columns of the label table"
        )
    return count if wanted else 0


def covariates_of(batch: BagBatch, count: int) -> Tensor:
    """`(B, count)`, those of the bags.

    Raises:
        ValueError: where they have none, or another number of them.
    """
    if batch.covariates is None or batch.covariates.shape[1] != count:
        got = "none" if batch.covariates is None else batch.covariates.shape[1]
        raise ValueError(
            f"expected bags with {count} covariates, for which the network was built, got {got}"
        )
    return batch.covariates
