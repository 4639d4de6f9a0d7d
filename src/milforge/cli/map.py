"""`milforge-map ckpt_path=RUN`: maps of bags: what each tile says for the prediction."""

import re
import sys

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from milforge.cli.common.app import launched, run
from milforge.config.checkpoints.checkpoint_config import prepare
from milforge.config.keys.key_check import check_targets


def draw_maps(config: DictConfig) -> None:
    """Predicts and maps as the config says."""
    check_targets(config)
    from milforge.api.trained.evaluation import infer

    infer(config, evaluate=False, launch=launched(config))


def prepare_names() -> None:
    """Reads the checkpoint, and makes of `bags=a,b` the list that Hydra takes."""
    prepare("milforge-map")
    sys.argv[1:] = [as_list(each) for each in sys.argv[1:]]


def as_list(argument: str) -> str:
    """`bags=a,b` as a list of names; any other argument, such as a list, as it is.

    Example:
        >>> as_list("bags=a b,2"), as_list("bags=[a,b]"), as_list("bags=wrong")
        ("bags=['a b','2']", 'bags=[a,b]', 'bags=wrong')
    """
    found = re.fullmatch(r"bags=([^\[\]'\"]*,[^\[\]'\"]*)", argument)
    if found is None:
        return argument
    names = [name.strip() for name in found[1].split(",") if name.strip()]
    return f"bags=[{','.join(QuotedString(n, Quote.single).with_quotes() for n in names)}]"


def main() -> None:
    """Entry point."""
    run(draw_maps, "map", before=prepare_names)


if __name__ == "__main__":
    main()
