"""A run that is finished is left as it is, where the data at hand are those that it saw."""

from pathlib import Path

from omegaconf import DictConfig

from milforge.api.build import make_data
from milforge.config.checkpoints.checkpoint_config import load_checkpoint
from milforge.config.messages import explain
from milforge.runs.checkpoint_io import last_whole
from milforge.runs.read_files import read_summary
from milforge.runs.refused_folder import RefusedFolder
from milforge.runs.resume import check_same_data


def check_finished_run(config: DictConfig, folder: Path) -> None:
    """Checks that a finished run saw the data at hand, of which its metrics are about to be said.

    The labels are read, and the first and last bag of each part.

    Args:
        config: of the run.
        folder: of the run.

    Raises:
        RefusedFolder: where bags, labels or sizes are others, or cannot be read; the run stays as
            it is.
    """
    seen = (read_summary(folder / "summary.json")["data"] or {}).get("hashes", {})
    path, _ = last_whole(folder / "checkpoints")
    try:
        # Tables are read in the order of the features that was learnt.
        names = () if path is None else load_checkpoint(str(path))["milforge"]["feature_names"]
        data = make_data(config, feature_names=names)
        here = data.fingerprints(tuple(data.parts))
    except Exception as error:
        sentence = explain(error, "train")
        if sentence is None:
            raise
        raise RefusedFolder(
            f"{folder} holds a finished run, and the data at hand cannot be compared with those "
            f"that it saw: {sentence}"
        ) from error
    check_same_data(seen, here, folder)
