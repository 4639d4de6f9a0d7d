# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Train and read a run from Python
#
# `compose` takes the same overrides as the command line, `fit` does what `milforge-train` does. The bags here
# are handwritten digits, positive where one of them is a 9.

# %%
import json

import pyarrow.parquet as pq

import milforge
from milforge.data import digits_bags

overrides = ["data.train=60", "data.val=30", "data.test=30", "trainer.max_epochs=3", "logger=csv"]
config = milforge.compose(
    "train", ["model=gated_abmil", "seed=1", "callbacks.figures=null", *overrides]
)
run = milforge.fit(config)
print({name: round(value, 3) for name, value in run.metrics.items() if name.startswith("test/")})

# %% [markdown]
# The folder of the run has everything that was computed. `summary.json` is written last: where it is, the run
# is whole.

# %%
summary = json.loads((run.folder / "summary.json").read_text())
print(summary["status"], summary["monitor"], "best epoch", summary["best_epoch"])
assert summary["metrics"]["test/auroc"] == run.metrics["test/auroc"]

# %% [markdown]
# Predictions are tables. Which test bag is the surest error?

# %%
bags = pq.read_table(run.folder / "predictions" / "bags.parquet").to_pylist()
tested = [bag for bag in bags if bag["part"] == "test"]
wrong = [bag for bag in tested if (bag["probability_1"] > 0.5) != bag["label"]]
for bag in sorted(wrong, key=lambda bag: -abs(bag["probability_1"] - 0.5))[:3]:
    print(bag["bag_id"], bag["label"], round(bag["probability_1"], 3))
assert len(tested) == 30

# %% [markdown]
# A checkpoint alone predicts other bags: it holds config, standardising and the names of the classes.

# %%
model = milforge.load(run.folder)
table = model.predict(digits_bags(train=1, val=1, test=4).test)
print(table.column_names, model.task.class_names)
assert table.num_rows == 4
