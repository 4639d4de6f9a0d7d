"""How much smoothing smooths, and with what strength."""

from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torchmetrics import MeanMetric

from milforge.data import BagBatch
from milforge.functional import relative_dirichlet_energy
from milforge.nn import Sm


@dataclass(eq=False)
class _Watch:
    """An Sm module under observation; of each call `(3, B)`: before, after, whether it counts."""

    sm: Sm
    hook: RemovableHandle
    calls: list[Tensor]


class SmoothingMonitor(Callback):
    """Logs the Dirichlet energy before and after each Sm module, and its alpha.

    In validation and test, `val/sm_energy_before` and `val/sm_energy_after` are the relative
    Dirichlet energy (`milforge.functional.relative_dirichlet_energy`) of what Sm smooths and of
    what it gives, as the mean over all bags with instances, of all processes: how the bags are
    batched does not matter. `val/sm_alpha` is the strength of smoothing. In a test the prefix is
    `test/`; where several modules smooth, names end with the module's path, as in
    `val/sm_alpha/pool.sm`. The members of an ensemble are averaged: a value is the mean over their
    modules of that path.

    What is smoothed is, for `SmAttentionPool`, the projected instances (early, mid) or the scores
    (late). Over a symmetrically normalised graph the exact mode never raises the relative energy;
    the approximate one can, at a large alpha and few steps.

    A module that is the identity is left out. Energies are measured of packed values, one row an
    instance of the batch; padded ones are not, because it is not known here which rows are padding.
    Energies that are not a number are not logged. Costs two sparse products a batch.
    """

    uses_coords = False  # of a batch; see milforge.training.data.used_coords

    def __init__(self) -> None:
        self._watches: dict[str, list[_Watch]] = {}
        self._batch: BagBatch | None = None

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begins to measure, but not in the sanity check."""
        if not trainer.sanity_checking:
            self._begin(pl_module)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begins to measure."""
        self._begin(pl_module)

    def on_validation_batch_start(  # noqa: D102
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: BagBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batch = batch

    def on_test_batch_start(  # noqa: D102
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: BagBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batch = batch

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the values of the epoch."""
        self._log(pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the values of the test."""
        self._log(pl_module, "test")

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leaves no hook behind."""
        self._end()

    def _begin(self, module: L.LightningModule) -> None:
        members: Any = getattr(module, "members", [module])
        for name, sm in chain.from_iterable(member.named_modules() for member in members):
            if isinstance(sm, Sm) and not sm.identity:
                calls: list[Tensor] = []
                hook = sm.register_forward_hook(partial(self._measure, calls), with_kwargs=True)
                alike = self._watches.setdefault(name.removeprefix("network."), [])
                alike.append(_Watch(sm, hook, calls))

    def _end(self) -> dict[str, list[_Watch]]:
        watches, self._watches, self._batch = self._watches, {}, None
        for watch in chain.from_iterable(watches.values()):
            watch.hook.remove()
        return watches

    @torch.no_grad()
    def _measure(
        self,
        calls: list[Tensor],
        _: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: Tensor,
    ) -> None:
        def measure(f: Tensor, adj: Tensor) -> None:  # binds them as Sm does
            batch = self._batch
            if batch is None or adj.ndim != 2 or len(f) != batch.num_instances:
                return
            before, after = (relative_dirichlet_energy(u, adj, batch.ptr) for u in (f, out))
            counts = batch.ptr.diff() > 0
            calls.append(torch.stack([before, after, counts]))

        measure(*args, **kwargs)

    def _log(self, module: L.LightningModule, stage: str) -> None:
        watches = self._end()
        values: dict[str, float] = {}
        for name, alike in watches.items():
            suffix = f"/{name}" if len(watches) > 1 else ""
            every = chain.from_iterable(watch.calls for watch in alike)
            calls = torch.cat([torch.zeros(3, 0, device=module.device), *every], 1)
            before, after, counts = calls
            for when, energies in (("before", before), ("after", after)):
                energy = _mean(energies[counts == 1])
                if not energy.isnan():
                    values[f"{stage}/sm_energy_{when}{suffix}"] = float(energy)
            alphas = torch.stack([watch.sm.alpha.detach().double() for watch in alike])
            values[f"{stage}/sm_alpha{suffix}"] = float(alphas.mean())
        # The values are those of all processes already.
        module.log_dict(values, sync_dist=False)


def _mean(values: Tensor) -> Tensor:
    """The mean over all processes, of which some may have no value."""
    metric = MeanMetric(nan_strategy="disable").to(values.device)
    metric.update(values)
    mean: Tensor = metric.compute()
    return mean
