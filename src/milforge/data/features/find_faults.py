"""Finds the bags of data sets that cannot be read, before any is needed."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from milforge.data.dataset import BagDataset
from milforge.data.faults import BagError, Fault

# Files are waited for more than computed on; so many bags are in memory at once.
_THREADS = 4


def find_faults(
    datasets: Iterable[BagDataset], progress: Callable[[int, int], None]
) -> list[Fault]:
    """Reads every bag and gives what is wrong with any, in the order of the bags.

    Args:
        datasets: their bags are read.
        progress: is called with how many bags have been read, and of how many.
    """
    bags = [(each, number) for each in datasets for number in range(len(each))]

    def faults_of(bag: tuple[BagDataset, int]) -> Iterable[Fault]:
        try:
            bag[0][bag[1]]
        except BagError as error:
            return error.faults
        return ()

    faults: list[Fault] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, found in enumerate(pool.map(faults_of, bags), 1):
            faults += found
            progress(done, len(bags))
    return faults
