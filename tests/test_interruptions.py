"""A signal is not lost: not in a finalizer, where Python prints an exception and goes on, nor under another error."""

import signal
import subprocess
import sys
import textwrap

import pytest
from prefect.exceptions import TerminationSignal

from flows.console import Terminated
from tasks.failure import explained


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (signal.SIGINT, "KeyboardInterrupt"),
        (signal.SIGTERM, "Terminated(15)"),
        (signal.SIGTERM, "TerminationSignal(signal=15)"),
    ],
)
def test_a_signal_in_a_finalizer_ends_the_process_a_moment_later(number: signal.Signals, raised: str) -> None:
    program = f"""
        import time
        from prefect.exceptions import TerminationSignal
        from flows.console import Terminated
        from spatiobatch.interruptions import lose_none

        class Finalized:
            def __del__(self):
                raise {raised}

        lose_none()
        Finalized()
        time.sleep(30)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=False, capture_output=True
    )
    assert done.returncode == -number
    assert b"Exception ignored" not in done.stderr


def test_an_error_in_a_finalizer_is_still_told() -> None:
    program = """
        from spatiobatch.interruptions import lose_none

        class Finalized:
            def __del__(self):
                raise ValueError("no luck")

        lose_none()
        Finalized()
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=False, capture_output=True
    )
    assert done.returncode == 0
    assert b"ValueError: no luck" in done.stderr


@pytest.mark.parametrize("end", [KeyboardInterrupt(), Terminated(signal.SIGHUP), TerminationSignal(signal.SIGTERM)])
def test_a_signal_that_another_error_covers_ends_the_flow(end: BaseException) -> None:
    @explained
    def flow() -> None:
        try:
            raise end
        finally:
            raise ValueError("Task run is not set")  # as Prefect does where a task is about to begin

    with pytest.raises(type(end)) as told:
        flow()
    assert told.value is end


def test_an_error_that_came_up_while_another_was_handled_is_told_as_it_is() -> None:
    @explained
    def flow() -> None:
        try:
            raise KeyError("missing")
        except KeyError as error:
            raise ValueError("no luck") from error

    with pytest.raises(ValueError, match="no luck"):
        flow()
