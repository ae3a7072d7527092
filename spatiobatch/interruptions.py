"""What is told to end ends, also where the exception that tells it is swallowed or covered by another."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

_SOON_SECONDS = 0.05
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def lose_none() -> None:
    """Have a signal come again that was raised where no exception gets out, as in a finalizer, and note all that come.

    https://docs.python.org/3/library/signal.html#handlers-and-exceptions
    """
    if not isinstance(sys.unraisablehook, _Again):
        sys.unraisablehook = _Again(sys.unraisablehook)
    if threading.current_thread() is threading.main_thread():
        _came()


def pause(seconds: float) -> None:
    """Wait before looking again; a signal that came before and has ended nothing comes again instead.

    Some code of others, much of it in C, drops any exception. While one is on its way, nothing comes again: whoever
    cleans up after it is to end.
    """
    if threading.current_thread() is threading.main_thread() and sys.exception() is None and (last := _came().last()):
        signal.raise_signal(last)
    time.sleep(seconds)


def covered_by(error: BaseException) -> BaseException | None:
    """The signal in whose handling an error came up, as Prefect's `Task run is not set` for a run about to begin."""
    behind = error.__cause__ or error.__context__
    return behind if behind is None or _number(behind) else covered_by(behind)


@cache
def _came() -> "_Came":
    return _Came()


class _Came:
    """The signals that came to this process, whatever became of the exceptions that their handlers raised.

    https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
    """

    def __init__(self) -> None:
        self._noted, note = os.pipe()
        os.set_blocking(self._noted, False)
        os.set_blocking(note, False)
        if (others := signal.set_wakeup_fd(note, warn_on_full_buffer=False)) != -1:
            signal.set_wakeup_fd(others)
        self._last = 0

    def last(self) -> int:
        """The last that tells a process to end; 0 for none."""
        with suppress(BlockingIOError):
            self._last = ([number for number in os.read(self._noted, 4096) if number in _ENDING] or [self._last])[-1]
        return self._last


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
