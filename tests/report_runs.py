"""Folders of runs with predictions, as training writes them, without training."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf

from milforge.statistics import auroc


class Cohort:
    """Patients with one or two slides each, of three sites; the site says nothing.

    Args:
        patients: number of them, half with the disease.
        seed: of the drawing.
    """

    def __init__(self, patients=60, seed=0):
        generator = np.random.default_rng(seed)
        slides = generator.integers(1, 3, size=patients)
        self.patient = np.repeat(np.arange(patients), slides)
        self.label = self.patient % 2
        self.n = len(self.patient)
        self.bag = np.array([f"slide_{i:03d}" for i in range(self.n)], object)
        self.name = np.array([f"patient_{p:02d}" for p in self.patient], object)
        self.site = np.array(["north", "south", "east"], object)[(self.patient // 2) % 3]
        self.size = generator.integers(200, 2000, size=self.n)
        self.person = generator.normal(size=patients)[self.patient]
        self.order = generator.permutation(self.n)

    def fold_of(self, folds):
        return (self.patient // 2) % folds

    def logits(self, strength, seed):
        noise = np.random.default_rng((seed, int(100 * strength))).normal(size=self.n)
        return 2 * (strength * (2 * self.label - 1) + self.person + 0.5 * noise)


def write_predictions(
    folder, rows, *, task="Binary", class_names=("healthy", "tumour"), targets=None
):
    """`rows`: name to column; `targets`: of a task of several, name to task and classes."""
    metadata = {"task": task, "class_names": "\n".join(class_names)}
    if targets is not None:
        each = {n: {"task": t, "class_names": classes} for n, (t, classes) in targets.items()}
        metadata["targets"] = json.dumps(each)
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    table = pa.table({k: pa.array(list(v)) for k, v in rows.items()}, metadata=metadata)
    pq.write_table(table, folder / "predictions" / "bags.parquet")


def rows_of(cohort, chosen, part, logits):
    """The rows of a part as `bags.parquet` has them."""
    p = 1 / (1 + np.exp(-logits))
    return {
        "bag_id": cohort.bag[chosen],
        "part": np.full(len(chosen), part, object),
        "patient": cohort.name[chosen],
        "size": cohort.size[chosen],
        "order": np.argsort(np.argsort(cohort.order[chosen])),
        "label": cohort.label[chosen],
        "probability_0": (1 - p)[chosen],
        "probability_1": p[chosen],
        "logit_0": logits[chosen],
        "table_site": cohort.site[chosen],
    }


def merged(*several):
    return {name: np.concatenate([each[name] for each in several]) for name in several[0]}


def write_config(folder, model, *, seed=0, monitor="val/loss", **keys):
    config = OmegaConf.create(
        {
            "task_name": "train",
            "monitor": monitor,
            "seed": seed,
            "data": {"_target_": "milforge.data.FeatureBags", "root": "bags"},
            "split": {"_target_": "milforge.data.KFold", "fold": 0, "folds": 5},
            "model": {"_target_": "x.Net", "name": model},
            "optimizer": {"lr": 1e-3},
            "trainer": {"max_epochs": 20},
            "standardise": "auto",
        }
    )
    for key, value in keys.items():
        OmegaConf.update(config, key, value, force_add=True)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "config.yaml")
    lines = [f"model={model}", f"seed={seed}"]
    (folder / "overrides").write_text("".join(f"{line}\n" for line in lines))


def write_summary(folder, metrics, monitor="val/loss", **more):
    summary = {
        "status": "finished",
        "metrics": metrics,
        "seed": 0,
        "monitor": monitor,
        "best_epoch": 7,
        "wall_seconds": 12.5,
        "versions": {"python": "3.11.2", "milforge": "0.1.0", "torch": "2.6.0"},
        "git_commit": "0123456789abcdef",
        "data": {"fingerprint": "f", "bags": {"train": 60, "val": 10, "test": 20}, "skipped": []},
    }
    (folder / "summary.json").write_text(json.dumps({**summary, **more}))


def write_cross_validation(root, cohort, models, *, folds=5, seeds=3, monitor="val/loss"):
    """A run for each model (name to strength), fold and seed; returns their folders."""
    folders = []
    of = cohort.fold_of(folds)
    for model, strength in models.items():
        for fold in range(folds):
            test = np.flatnonzero(of == fold)
            val = np.flatnonzero(of == (fold + 1) % folds)
            train = np.flatnonzero((of != fold) & (of != (fold + 1) % folds))
            for seed in range(seeds):
                folder = root / f"{model}_{fold}_{seed}"
                logits = cohort.logits(strength, 100 * fold + seed)
                write_config(folder, model, seed=seed, monitor=monitor, **{"split.fold": fold})
                rows = merged(
                    rows_of(cohort, val, "val", logits), rows_of(cohort, test, "test", logits)
                )
                write_predictions(folder, rows)
                value = auroc(cohort.label[test], logits[test])
                write_summary(folder, {"test/auroc": value, "val/loss": 0.4}, monitor)
                parts = [cohort.bag[part] for part in (train, val, test)]
                with (folder / "splits.csv").open("w", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow(["", "train", "val", "test"])
                    for number in range(max(map(len, parts))):
                        cells = [part[number] if number < len(part) else "" for part in parts]
                        writer.writerow([number, *cells])
                folders.append(folder)
    return folders
