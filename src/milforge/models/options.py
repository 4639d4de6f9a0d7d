"""Checks of the options of networks, whose errors name the key of the config."""


def check_counts(**counts: int) -> None:
    """Checks options that are numbers of something.

    Raises:
        ValueError: names the first that is below 1.
    """
    for key, count in counts.items():
        if count < 1:
            raise ValueError(f"expected model.{key} of at least 1, got {count}")


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Checks an option that is one of a few words.

    Raises:
        ValueError: where it is another one.
    """
    if value not in choices:
        raise ValueError(f"expected model.{key} to be one of {choices}, got {value!r}")
