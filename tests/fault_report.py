"""Counts what became of the faults that the matrix tried, and prints it at the end of a run.

A pytest plugin (`conftest.py` loads it). Each case tells what happened through its report, which xdist carries too.
"""

from collections import Counter
from typing import Any, Literal

import pytest

Outcome = Literal["survived", "refused"]
_TRIED, _STRUCK = "faults tried", "requests broken"


class Tally:
    """What one test tells of its faults."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties
        self._tell(_TRIED, 1)

    def _tell(self, what: str, number: int) -> None:
        self._properties.append((what, number))

    def ends(self, outcome: Outcome, struck: int) -> None:
        """A fault struck so often, and its case ended well, or in one clear error."""
        assert struck > 0, "the fault has not struck, so that nothing was tried"
        self._tell(_STRUCK, struck)
        self.comes_to(outcome)

    def comes_to(self, outcome: Outcome) -> None:
        """A case ended well, or in one clear error, in which no request was broken, but something else went wrong."""
        self._tell(outcome, 1)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Tells what becomes of this test's fault."""
    return Tally(request.node.user_properties)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Add up what the tests told."""
    found: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                found.update({name: value for name, value in report.user_properties if isinstance(value, int)})
    if tried := found[_TRIED]:
        survived, refused, struck = found["survived"], found["refused"], found[_STRUCK]
        wrong = tried - survived - refused
        terminalreporter.section("fault matrix")
        terminalreporter.line(
            f"{tried} faults tried, {struck} requests and tasks broken: {survived} survived, {refused} refused with a "
            f"clear error, {wrong} neither"
        )
