"""What holds of the configs that MilForge ships; those of a fork may be otherwise."""

from hydra.utils import get_object

from test_configs import CONFIGS


def test_every_shipped_file_says_what_it_is_for():
    bare = {"trainer", "callbacks", "paths", "optimizer", "hydra"}
    for path in CONFIGS.rglob("*.yaml"):
        group = str(path.relative_to(CONFIGS)).split("/")[0]
        assert group in bare or "# " in path.read_text(), path


def test_targets_are_public_names():
    """What a config names must not move when a private module does."""
    for path in CONFIGS.rglob("*.yaml"):
        if path.parent.name == "hydra":  # what Hydra itself calls is stored with no run
            continue
        for line in path.read_text().splitlines():
            key, _, target = line.strip().partition(": ")
            if key == "_target_" and target.startswith("milforge."):
                assert target.count(".") == 2, f"{path}: {target}"
                assert target.rpartition(".")[2] in get_object(target.rpartition(".")[0]).__all__
