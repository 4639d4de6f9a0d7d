"""The signals that a run listens to, as far as the platform has them: Windows lacks two."""

import signal

TERM: int = signal.SIGTERM
USR1: int | None = getattr(signal, "SIGUSR1", None)
USR2: int | None = getattr(signal, "SIGUSR2", None)
# What a signal's end says of a run whose name is not known where it is caught.
GOES_ON = "it goes on with the same command and run=NAME"


def there(*signals: int | None) -> tuple[int, ...]:
    """Those of the signals that the platform has."""
    return tuple(each for each in signals if each is not None)
