# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Features of your slides, to the map and the report
#
# The folder here is made up, in CLAM's layout: 30 slides of 15 patients, of tiles with 16 features, of which the
# first is raised in some tiles of positive slides. Put your own folder and table in its place.

# %%
import importlib
import sys
from pathlib import Path

import h5py
import numpy as np

rng = np.random.default_rng(0)
folder = Path("made_up")
(folder / "h5_files").mkdir(parents=True)
rows = ["case_id,slide_id,label"]
for number in range(30):
    positive = number // 2 % 2
    tiles = np.argwhere(rng.random((12, 12)) < 0.8)
    features = rng.normal(size=(len(tiles), 16)).astype(np.float32)
    if positive:
        near = np.abs(tiles - tiles[rng.integers(len(tiles))]).max(1) < 4
        features[near, 0] += 3
    with h5py.File(folder / "h5_files" / f"slide_{number}.h5", "w") as file:
        file["features"], file["coords"] = features, 512 * tiles
    rows.append(f"patient_{number // 2},slide_{number},{'tumour' if positive else 'normal'}")
(folder / "labels.csv").write_text("\n".join(rows) + "\n")

# %% [markdown]
# The commands are those of a terminal (`!milforge-train ...` in a notebook). Here they are called in this process,
# which has imported torch already.


# %%
def run(command, *arguments):
    sys.argv = [f"milforge-{command}", *arguments]
    try:
        importlib.import_module(f"milforge.cli.{command}").main()
    except SystemExit as end:  # as a command ends in a terminal
        if end.code:
            raise


run("inspect", str(folder), "--labels", str(folder / "labels.csv"))

# %%
data = [
    "data=feature_bags",
    f"data.root={folder}",
    f"data.labels={folder}/labels.csv",
    "logger=csv",
]
folds = ["split.folds=3", "split.fold=0,1,2", "trainer.max_epochs=4", "sweep=cv"]
run("train", "-m", *data, *folds)

# %% [markdown]
# The report pools the test slides of all folds, each predicted by the model that did not see its patient.

# %%
sweep = "logs/train/multiruns/cv"
run("report", sweep, "--html", "report.html")
assert Path("report.html").is_file()

# %% [markdown]
# The map shows what each tile adds to the prediction.

# %%
run("map", f"ckpt_path={sweep}/0/checkpoints/best.ckpt", "logger=csv")
maps = sorted(path.name for path in Path("logs/map").rglob("*.html"))
print(maps)
assert maps
