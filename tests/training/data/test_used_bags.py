"""How many bags a run looks at, counted as Lightning reads them."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from milforge.data import EvaluationBags
from milforge.training.data.used_bags import evaluated_bags, trained_bags


class Counts(L.LightningModule):
    """Counts the bags of its batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = {"train": 0, "test": 0}

    def training_step(self, batch, batch_idx):
        self.seen["train"] += len(batch)
        return self.weight.sum()

    def test_step(self, batch, batch_idx):
        self.seen["test"] += len(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec")
@pytest.mark.parametrize("limit", [1.0, 0.5, 1, 2, 99])
def test_they_are_those_that_the_trainer_reads(tmp_path, limit):
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        limit_test_batches=limit,
        limit_train_batches=limit,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
    )
    module = Counts()
    bags = list(range(11))
    trainer.test(module, DataLoader(bags, batch_size=4), verbose=False)
    assert evaluated_bags(11, 4, 1, limit) == module.seen["test"]
    batches = [[0, 1, 2], [3], [4, 5], [6, 7, 8, 9, 10]]
    trainer.fit(module, DataLoader(bags, batch_sampler=batches))
    assert trained_bags(batches, limit) == module.seen["train"]


@pytest.mark.parametrize("limit", [1.0, 0.4, 1, 2])
@pytest.mark.parametrize("bags", [3, 7, 12])
def test_of_several_processes_each_reads_its_own(bags, limit):
    shares = [list(EvaluationBags(bags, rank, 3)) for rank in range(3)]
    expected = 0
    for share in shares:
        batches = [share[start : start + 2] for start in range(0, len(share), 2)]
        stop = int(len(batches) * limit) if isinstance(limit, float) else limit
        expected += sum(map(len, batches[:stop]))
    assert evaluated_bags(bags, 2, 3, limit) == expected
