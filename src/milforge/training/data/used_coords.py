"""Whether anything looks at the coords of the bags in a batch: if not, they are not read."""

from typing import Any, Literal

import lightning as L

from milforge.data.dataset import declares

Stage = Literal["train", "validation", "test", "predict"]
_STEPS = ("forward", "prepared", "training_step", "validation_step", "test_step", "predict_step")


def uses_coords(trainer: L.Trainer | None, stage: Stage) -> bool:
    """Whether the module, its network or a callback may look at the coords of a batch.

    Each says so by an attribute `uses_coords`. One that says nothing, and is not Lightning's own,
    may look at them; so may a subclass that overrides what looks at batches and does not say it
    again. What is returned of predictions holds coords.

    Args:
        trainer: the trainer of the run; None: it is not known who uses the batches.
        stage: of the batches.
    """
    if trainer is None or stage == "predict":
        return True
    module: Any = trainer.lightning_module
    hooks = [f"on_{stage}_batch_{when}" for when in ("start", "end")]
    looking: list[tuple[Any, tuple[str, ...]]] = [
        (module, (*_STEPS, *hooks)),
        (getattr(module, "network", None), ("forward", "auxiliary_loss", "contributions")),
    ]
    # In a fit, Lightning's own callbacks alone save and stop, by what was logged.
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    looking += [(each, tuple(hooks)) for each in callbacks if _sees_batches(each, hooks)]
    return any(_may_use(thing, methods) for thing, methods in looking)


def _sees_batches(callback: L.Callback, hooks: list[str]) -> bool:
    """Whether a callback has a hook of batches that is not Lightning's."""
    return any(
        not _definer(callback, hook).__module__.startswith(("lightning.", "pytorch_lightning."))
        for hook in hooks
    )


def _definer(callback: L.Callback, hook: str) -> type:
    return next(each for each in type(callback).__mro__ if hook in vars(each))


def _may_use(thing: Any, methods: tuple[str, ...]) -> bool:
    return not declares(thing, "uses_coords", methods) or bool(thing.uses_coords)
