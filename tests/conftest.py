"""What every test shares. It is imported before anything that imports torch."""

import gc
import os

# Read once, when torch loads OpenMP: threads that spin beside a busy process cost tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import jaxtyping
import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# Tests may run in a job of SLURM's, but are no part of it: they would have it queued again.
for name in [each for each in os.environ if each.startswith("SLURM_")]:
    del os.environ[name]

# While tests run, the shapes in the signatures of the operators are checked; not of those that
# raise a ValueError of their own, which would be forestalled.
install_import_hook(
    ["milforge.functional.segment", "milforge.functional.attention"], "beartype.beartype"
)

# Imported behind the hook, because it imports milforge.
from composing import hide_local_config, merge_once, parse_once, read_once  # noqa: E402

# The tensors of the tests are small, and the machine may be shared.
torch.set_num_threads(min(2, torch.get_num_threads()))

# Fewer examples are enough where only the kernels differ: see `make numeric`.
settings.register_profile(
    "milforge",
    deadline=None,
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "50")),
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("milforge")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_user_is_left_alone(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user_cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def local_config_is_left_out():
    with pytest.MonkeyPatch.context() as patch:
        hide_local_config(patch)
        read_once(patch)
        merge_once(patch)
        parse_once(patch)
        yield


@pytest.fixture(scope="module", autouse=True)
def shapes_are_checked_beside_the_operators(request):
    """Of a run by a command, the checks take a twentieth of the time, and they were made here."""
    checked = {"functional", "nn", "models", "sampling", "metrics", "training", "src"}
    folders = request.path.relative_to(request.config.rootpath).parts
    jaxtyping.config.update("jaxtyping_disable", not checked & set(folders))
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_collection_modifyitems(items):
    # Files with slow tests begin first, or else one processor waits for the other at the end.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_collection_finish():
    # What is imported by now is never garbage, and it is much: not to look through it again and
    # again saves a twentieth of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
