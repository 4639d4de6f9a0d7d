"""What the environment says of Weights & Biases."""

import os

# By whether the run is kept on this machine; `run` and `dryrun` are older names.
_OFFLINE = {"online": False, "run": False, "shared": False, "offline": True, "dryrun": True}


def wandb_mode() -> str | None:
    """The value of `WANDB_MODE`; None where it is not set.

    It counts more than the config, as it does for W&B itself: a cluster without the internet sets
    it for everybody.

    Raises:
        ValueError: where it is none that W&B knows.
    """
    mode = os.environ.get("WANDB_MODE") or None
    if mode is not None and mode != "disabled" and mode not in _OFFLINE:
        raise ValueError(
            f"WANDB_MODE={mode}: expected the environment to say online, offline or disabled; "
            "change it, or unset it to go by the config"
        )
    return mode


def is_offline_mode(mode: str) -> bool:
    """Whether a mode other than `disabled` keeps the run on this machine.

    Example:
        >>> is_offline_mode("online"), is_offline_mode("dryrun")
        (False, True)
    """
    return _OFFLINE[mode]
