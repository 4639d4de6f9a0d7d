# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Compare two models honestly
#
# One run of each model says little: seeds differ as much as models do. So both are trained on the same bags, with
# the same seeds, and compared in pairs.

# %%
import milforge
from milforge.statistics import compare_pairs

SEEDS = range(4)
sizes = ["data.train=40", "data.val=20", "data.test=60", "trainer.max_epochs=3", "logger=none"]
quiet = ["callbacks.figures=null", "callbacks.progress=null"]
auroc = {}
for model in ("gated_abmil", "mean_pool"):
    auroc[model] = []
    for seed in SEEDS:
        names = [f"model={model}", f"seed={seed}", f"data.seed={seed}", f"run={model}_{seed}"]
        run = milforge.fit(milforge.compose("train", [*names, *sizes, *quiet]))
        auroc[model].append(run.metrics["test/auroc"])
    print(model, [round(value, 3) for value in auroc[model]])

# %% [markdown]
# The differences of pairs, with the interval of their mean and the p-value of a permutation test. Of four pairs
# no p-value can be below 2 / 2^4 = 0.125, whatever the models: this many seeds show a direction and prove
# nothing. `milforge-bench` says how many more seeds a difference would need.

# %%
pairs = zip(auroc["gated_abmil"], auroc["mean_pool"], strict=True)
differences = [attention - mean for attention, mean in pairs]
compared = compare_pairs(differences)
print([round(each, 3) for each in differences])
print(compared)
assert compared.p >= 2 / 2 ** len(SEEDS)

# %% [markdown]
# What would be dishonest, and how the commands stop you from it:
#
# - choosing a model, an epoch or a threshold by test bags: `monitor=test/...` is refused, operating points are
#   chosen on validation;
# - comparing runs on different bags: runs whose `fingerprint` differs are no pairs;
# - naming the best of many comparisons: `milforge-report` corrects p-values for their number;
# - a model that goes by bag size or by the order of the slides: `milforge-bench --bags-alone` puts beside the
#   models what these reach.
