"""Benchmarks judge fairly: sides take turns, medians count, and a missed bound is said."""

import json

import pytest

from benchmarks.fair_use import Call, Phase
from benchmarks.results import Result, json_lines, medians


def test_sides_take_turns_and_their_medians_count() -> None:
    order: list[str] = []
    figures = {"ours": [3.0, 100.0, 2.0], "theirs": [5.0, 1.0, 4.0]}

    def measure(side: str) -> float:
        order.append(side)
        return figures[side][order.count(side) - 1]

    found = medians({"ours": lambda: measure("ours"), "theirs": lambda: measure("theirs")}, runs=3)
    assert found == {"ours": 3.0, "theirs": 4.0}
    assert order == ["ours", "theirs"] * 3


@pytest.mark.parametrize(
    ("bounds", "said"),
    [({}, ""), ({"at_least": 0.5}, "≥ 0.5"), ({"at_least": 0.6}, "≥ 0.6, missed"), ({"at_most": 0.4}, "≤ 0.4, missed")],
)
def test_a_missed_bound_is_said(bounds: dict[str, float], said: str) -> None:
    assert Result("ours", 5, "theirs", 10, "items/s", **bounds).wanted == said


def test_a_result_is_a_line_of_json() -> None:
    lines = json_lines([Result("ours", 5, "theirs", 10, "items/s", at_least=0.6)] * 2).splitlines()
    assert [json.loads(line)["ratio"] for line in lines] == [0.5, 0.5]


def test_a_pace_is_taken_while_all_slots_are_occupied_and_without_the_second_client() -> None:
    calls = [Call(tenth / 10, 200, other) for tenth in range(200) for other in (False, True)]
    phase = Phase(10, calls, occupied=[(0, 8), (9, 10), (12, 20)], lost=0)
    assert phase.steady == 10
    assert phase.pace(5, 1) == 20
