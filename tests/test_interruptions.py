"""No signal is lost: not in a finalizer, where Python prints an exception and goes on, under another, or in silence."""

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


TOLD = """
    import os, signal
    from flows.console import Terminated
    from spatiobatch.interruptions import lose_none, pause

    def terminate(number, frame):
        raise Terminated(number)

    signal.signal(signal.SIGTERM, terminate)
    lose_none()
    pause(0)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        pause(0)
    """


@pytest.mark.parametrize(
    ("rest", "printed", "error"),
    [
        (
            """
    except Terminated:
        print("dropped")
    for each in range(2):
        try:
            pause(0)
        except Terminated as again:
            print(again)
            """,
            ["dropped", "terminated", "terminated"],
            "",
        ),
        (
            """
    finally:
        pause(0)
        print("cleaned up")
            """,
            ["cleaned up"],
            "Terminated: terminated",
        ),
    ],
    ids=["dropped", "on its way"],
)
def test_a_signal_comes_again_at_the_next_pause_unless_it_is_on_its_way(
    rest: str, printed: list[str], error: str
) -> None:
    program = textwrap.dedent(TOLD) + textwrap.dedent(rest)
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False, capture_output=True, text=True)
    assert done.stdout.splitlines() == printed, done.stderr
    assert error in done.stderr


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
