"""`milforge-calibrate ckpt_path=RUN`: temperature and conformal sets from validation patients."""

import sys
from collections.abc import Sequence

HELP = """\
usage: milforge-calibrate ckpt_path=RUN [alpha=0.1]

Fits a temperature and conformal thresholds on the validation bags of a run and writes
calibrated.ckpt beside its best.ckpt: milforge-evaluate, milforge-predict and milforge.load use them
from there.

ckpt_path  a run's folder or its best.ckpt; a folder of runs, a pattern, or a list for several
alpha      share of patients whose set of classes may miss the true one"""
KEYS = ("ckpt_path", "alpha")


def parse(arguments: Sequence[str]) -> tuple[str, float]:
    """The checkpoint and alpha of a command line.

    Raises:
        ValueError: for another key, or one that is missing.
    """
    from milforge.config.keys.key_check import did_you_mean

    found = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in KEYS:
            raise ValueError(
                f"there is no key {key!r}{did_you_mean(key, list(KEYS))} (there are "
                f"{', '.join(KEYS)}, as in ckpt_path=RUN)"
            )
        found[key] = value.strip("'\"")
    if "ckpt_path" not in found:
        raise ValueError("milforge-calibrate needs a run: ckpt_path=RUN")
    try:
        alpha = float(found.get("alpha", 0.1))
    except ValueError:
        raise ValueError(f"expected a number for alpha, got {found['alpha']!r}") from None
    return found["ckpt_path"], alpha


def calibrate(arguments: Sequence[str]) -> None:
    """Calibrates each checkpoint that is named, and says what came out.

    Raises:
        ValueError: for a key, a checkpoint or predictions that cannot be used.
    """
    text, alpha = parse(arguments)
    from milforge.api.trained.calibration import calibrate as fit
    from milforge.config.checkpoints.checkpoint_paths import named_checkpoints

    for path in named_checkpoints(text):
        found = fit(path, alpha=alpha)
        print(f"checkpoint   {found.path}")
        print(f"temperature  {found.calibration.temperature:.4g}")
        thresholds = found.calibration.thresholds
        if thresholds is not None:
            pairs = zip(found.class_names, thresholds, strict=True)
            shown = ", ".join(f"{name} {1 - each:.3g}" for name, each in pairs)
            print(f"in the set   from a probability of {shown} on (alpha {alpha:g})")
        for note in found.notes:
            print(f"note         {note}")


def main() -> None:
    """Entry point."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return
    try:
        calibrate(arguments)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
