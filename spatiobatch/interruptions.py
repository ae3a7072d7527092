"""What is told to end ends, also where the exception that tells it is swallowed or covered by another."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

_SOON_SECONDS = 0.05


def lose_none() -> None:
    """Have a signal come again that was raised where no exception gets out, as in a finalizer.

    https://docs.python.org/3/library/signal.html#handlers-and-exceptions
    """
    if not isinstance(sys.unraisablehook, _Again):
        sys.unraisablehook = _Again(sys.unraisablehook)


def covered_by(error: BaseException) -> BaseException | None:
    """The signal in whose handling an error came up, as Prefect's `Task run is not set` for a run about to begin."""
    behind = error.__cause__ or error.__context__
    return behind if behind is None or _number(behind) else covered_by(behind)


class _Again:
    def __init__(self, otherwise: Callable[[Any], Any]) -> None:
        self._otherwise = otherwise

    def __call__(self, unraisable: Any) -> None:
        """Send the signal again, once what swallowed it is over; leave all else to whoever was there before."""
        number = _number(unraisable.exc_value)
        if number is None:
            self._otherwise(unraisable)
            return
        again = threading.Timer(_SOON_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()


def _number(error: BaseException | None) -> int | None:
    """The signal that an exception stands for: Python's own, ours, or Prefect's."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if error is None or isinstance(error, Exception):
        return None
    return getattr(error, "number", None) or getattr(error, "signal", None)
