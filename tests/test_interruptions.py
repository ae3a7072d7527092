"""A signal that is raised in a finalizer, where Python prints an exception and goes on, is not lost."""

import signal
import subprocess
import sys
import textwrap

import pytest


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
