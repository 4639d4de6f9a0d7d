"""Curves of faithfulness as a table and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from milforge.maps.checks.faithfulness import CURVES, Curves, shares
from milforge.markup import Markup, paragraph, tag

COLOURS = {"contribution": "C3", "attention": "C0", "gradient": "C1", "occlusion": "C2"}


def write_curves(path: Path, bags: Mapping[str, Curves]) -> None:
    """Writes a row per bag, score, curve and share of the tiles: the logit."""
    rows = [
        {"bag_id": name, "score": score, "curve": curve, "share": share, "logit": logit}
        for name, curves in bags.items()
        for (score, curve), logits in curves.items()
        for share, logit in zip(shares().tolist(), logits.tolist(), strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def draw_curves(bags: Sequence[Curves]) -> Figure:
    """The mean curves over bags, random order dashed."""
    figure = Figure((8.0, 3.4), layout="constrained")
    titles = {"deletion": "what says most is taken away", "insertion": "what says most comes first"}
    names = dict.fromkeys(score for bag in bags for score, _ in bag)
    for axes, curve in zip(figure.subplots(1, 2, sharey=True), CURVES, strict=True):
        for score in names:
            mean = np.mean([bag[score, curve] for bag in bags if (score, curve) in bag], axis=0)
            random = score == "random"
            colour, style = ("0.4", "--") if random else (COLOURS[score], "-")
            axes.plot(shares() * 100, mean, style, color=colour, label=score)
        axes.set_title(f"{curve}: {titles[curve]}", fontsize=9)
        axes.set_xlabel("tiles left (%)", fontsize=8)
        if curve == "deletion":
            axes.invert_xaxis()
            axes.set_ylabel("mean logit of the predicted class", fontsize=8)
            axes.legend(fontsize=8, frameon=False)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def areas_table(measured: Mapping[str, float], bags: int) -> list[Markup]:
    """What was measured, for the index of the maps."""
    found = {tuple(name.split("/")[1:]): value for name, value in measured.items()}
    scores = dict.fromkeys(score for _, score in found)
    columns = [name for name in (*CURVES, "agreement") if any(name == each for each, _ in found)]
    rows = [
        tag(
            "tr",
            tag("td", score),
            *(
                tag("td", f"{found[column, score]:.4g}" if (column, score) in found else "")
                for column in columns
            ),
        )
        for score in scores
    ]
    head = tag("tr", *(tag("th", each, scope="col") for each in ("score", *columns)))
    return [
        tag("h2", "Faithfulness"),
        paragraph(
            f"The mean logit of the predicted class over {bags} bags, while the tiles of the "
            "highest scores are taken away (deletion: small is faithful), and while they come "
            "first (insertion: large is faithful); compare with the random order. Agreement is "
            "the mean rank correlation of the maps of the single models. ",
            tag("a", "the curves", href="faithfulness.png"),
            ", ",
            tag("a", "their numbers", href="faithfulness.parquet"),
        ),
        tag("table", tag("thead", head), tag("tbody", *rows)),
    ]
