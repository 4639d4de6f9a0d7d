"""What docs/release.md says of handing a model on is done, on a tiny run."""

import re

import pytest
import torch

import milforge
from milforge.data import Bag
from project_copy import ROOT

BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "release.md").read_text("utf-8"), re.M | re.S
)


@pytest.mark.slow
def test_a_model_is_handed_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = ["data.train=16", "data.val=8", "data.test=8", "trainer.max_epochs=1"]
    config = milforge.compose(
        "train", [*sizes, "logger=none", "callbacks.figures=null", "test=false"]
    )
    run = milforge.fit(config)
    names = {}
    weights, program = (text.replace("logs/train/runs/NAME", str(run.folder)) for text in BLOCKS)
    exec(weights, names)
    kept = names["load_file"]("weights.safetensors")
    network = names["model"].network.state_dict()
    assert kept.keys() == network.keys()
    assert all(torch.equal(kept[name], network[name]) for name in kept)
    exec(program, names)
    exported = torch.export.load("model.pt2").module()
    for size in (2, 9, 130):
        x = torch.rand(size, *names["shape"])
        table = names["model"].predict([Bag(x, bag_id="a")])
        expected = [table[f"probability_{c}"][0].as_py() for c in (0, 1)]
        torch.testing.assert_close(exported(x)[0].tolist(), expected, atol=1e-6, rtol=1e-5)
