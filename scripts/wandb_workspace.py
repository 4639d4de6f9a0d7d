"""Makes the saved view of W&B that docs/dashboard.md explains: which panels stand where.

    pip install "milforge[workspace]"
    python scripts/wandb_workspace.py ENTITY/milforge

A view belongs to a project on a server, so it wants `wandb login`; it is made once, and holds for
all runs of the project, the ones to come as well. `--print` shows what it will hold, offline.
"""

import argparse
import json
import sys
from typing import Any

METRIC, MAXIMISED = "loss", "auroc"
# Section -> panels, each a kind and the keys that it shows.
Specification = dict[str, list[tuple[str, list[str]]]]


def specification(
    metric: str = METRIC, further: str = MAXIMISED, followed: int = 4
) -> Specification:
    """The sections of the view and their panels, in order.

    Args:
        metric: what chooses the epoch, without its part.
        further: another metric of the task, without its part.
        followed: the number of bags that are followed, `callbacks.dashboard.same_bags`.
    """
    return {
        "Which run is best": [
            ("bar", [f"best/val/{metric}"]),
            ("bar", [f"best/val/{further}"]),
            ("bar", [f"test/{further}"]),
            ("compare", []),
        ],
        "Does it learn": [
            ("line", [f"train/{metric}", f"val/{metric}"]),
            ("line", [f"val/{further}"]),
            ("line", [f"best/val/{metric}"]),
            ("line", ["best_epoch"]),
        ],
        "What it gets wrong": [
            ("curve", ["panels/roc_table", "fpr", "tpr"]),
            ("curve", ["panels/pr_table", "recall", "precision"]),
            ("confusion", ["panels/confusion_table"]),
            ("table", ["panels/per_class"]),
        ],
        "Where it looks": [
            ("epochs", [f"same_bags/{number}" for number in range(followed)]),
            ("table", ["test/bags"]),
            ("table", ["val/same_bags"]),
            ("pictures", ["figures/learning_curves", "figures/roc_pr", "figures/confusion"]),
        ],
    }


def workspace(entity: str, project: str, name: str, sections: Specification) -> Any:
    """The view as wandb-workspaces builds it; `.save()` sends it to the server."""
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as views

    def panel(kind: str, keys: list[str]) -> Any:
        if kind == "bar":
            return reports.BarPlot(title=f"{keys[0]}, per run", metrics=keys)
        if kind == "line":
            return reports.LinePlot(title=" and ".join(keys), x="epoch", y=keys)
        if kind == "compare":
            return reports.RunComparer(diff_only="split")
        if kind == "table":
            return reports.WeavePanelSummaryTable(table_name=keys[0])
        if kind == "epochs":
            return reports.MediaBrowser(title="the same bags", media_keys=keys, mode="gallery")
        if kind == "pictures":
            return reports.MediaBrowser(title="figures", media_keys=keys)
        query = {"summaryTable": {"tableKey": keys[0]}}
        if kind == "confusion":
            fields = {each: each for each in ("Actual", "Predicted", "nPredictions")}
            return reports.CustomChart(query, "wandb/confusion_matrix/v1", fields)
        fields = {"class": "class", "x": keys[1], "y": keys[2]}
        return reports.CustomChart(query, "wandb/area-under-curve/v0", fields)

    parts = [
        views.Section(name=title, panels=[panel(*each) for each in panels], is_open=True)
        for title, panels in sections.items()
    ]
    return views.Workspace(entity=entity, project=project, name=name, sections=parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", help="ENTITY/PROJECT, as the address of its page ends")
    parser.add_argument("--name", default="MilForge", help="of the view")
    parser.add_argument("--metric", default=METRIC, help="that chooses the epoch, such as loss")
    parser.add_argument("--further", default=MAXIMISED, help="another one, such as c_index")
    parser.add_argument("--print", action="store_true", help="print it, and send nothing")
    options = parser.parse_args()
    entity, slash, project = options.project.partition("/")
    if not (entity and slash and project):
        sys.exit(f"error: expected ENTITY/PROJECT, got {options.project!r}")
    sections = specification(options.metric, options.further)
    if options.print:
        print(json.dumps(sections, indent=2))
        return
    try:
        view = workspace(entity, project, options.name, sections)
    except ModuleNotFoundError as error:
        sys.exit(f'error: {error.name} is not installed: pip install "milforge[workspace]"')
    view.save()
    print(view.url)


if __name__ == "__main__":
    main()
