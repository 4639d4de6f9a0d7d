"""The signals that a run listens to, as far as the platform has them: Windows lacks two."""

import signal

TERM: int = signal.SIGTERM
USR1: int | None = getattr(signal, "SIGUSR1", None)
USR2: int | None = getattr(signal, "SIGUSR2", None)


def there(*signals: int | None) -> tuple[int, ...]:
    """Those of the signals that the platform has."""
    return tuple(each for each in signals if each is not None)
