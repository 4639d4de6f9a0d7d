"""Which group a run belongs to that only used a checkpoint: an evaluation, or maps."""

from collections.abc import Sequence
from pathlib import Path

from milforge.report.groups import Group
from milforge.report.runs import Run


def group_of(run: Run, groups: Sequence[Group]) -> Group | None:
    """The one group in which all checkpoints of an evaluation were trained."""
    named = run.summary.get("checkpoint")
    paths = [Path(each) for each in (named if isinstance(named, list) else [named]) if each]
    found = []
    for path in paths:
        fitting = [
            group
            for group in groups
            if any(
                path.resolve().is_relative_to(other.folder.resolve())
                for other in group.runs.values()
            )
        ]
        if not fitting:  # the folders may have been moved since
            tail = path.parent.parent.parts[-2:]
            fitting = [
                group
                for group in groups
                if any(other.folder.resolve().parts[-2:] == tail for other in group.runs.values())
            ]
        found.append(fitting[0] if len(fitting) == 1 else None)
    labels = {None if group is None else group.label for group in found}
    return found[0] if len(labels) == 1 else None
