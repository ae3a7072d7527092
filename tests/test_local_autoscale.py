"""Autoscale of local_azure's pools: the formula language, and pools that follow it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import HttpResponseError
from local_pools import GROUP, batch_account, until

from local_azure.nodes.autoscale import SAMPLE_PERIOD, Evaluation, Samples, Targets, check_formula

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BY_PENDING_TASKS = """
    $percent = $PendingTasks.GetSamplePercent(TimeInterval_Minute * 3); // too few in a young pool
    $tasks = $percent < 70 ? max(0, $PendingTasks.GetSample(1)) : max($PendingTasks.GetSample(TimeInterval_Minute * 3));
    $TargetDedicatedNodes = min(2, ceil($tasks / $TaskSlotsPerNode));
    $NodeDeallocationOption = taskcompletion;
"""


def evaluated(formula: str, *, waiting: float = 5, minutes: float = 5, slots: int = 1) -> Evaluation:
    """A formula on a pool of two nodes on which so many tasks have been waiting for so long."""
    values = {
        "$ActiveTasks": waiting,
        "$RunningTasks": 2.0,
        "$PendingTasks": waiting + 2,
        "$CurrentDedicatedNodes": 2.0,
    }
    samples = Samples()
    moment = NOW - timedelta(minutes=minutes)
    while moment < NOW:
        samples.take(moment, values)
        moment += SAMPLE_PERIOD
    return samples.evaluate(formula, NOW, values, Targets(2, 0), slots)


@pytest.mark.parametrize(
    ("formula", "dedicated"),
    [
        ("$TargetDedicatedNodes = 1 + 2 * 3 - 4 / 2", 5),
        ("$TargetDedicatedNodes = -1 < 0 && !(2 >= 3) ? 1 : 0", 1),
        ("a = 3; b = a == 3 ? (a > 4 ? 1 : 2) : 9; $TargetDedicated = b;", 2),
        ("$TargetDedicatedNodes = 2.9", 2),
        ("$TargetDedicatedNodes = -3", 0),
        ("$TargetDedicatedNodes = sum(vec(1, 2) * 2, 4) / len(1, 2)", 5),
        ("$TargetDedicatedNodes = round(std(1, 2, 3, 4)) + floor(avg(1, 2)) + val(vec(7, 8), 1)", 10),
        ("$TargetDedicatedNodes = percentile(vec(1, 2, 3, 4), 75) + range(2, 9) + lg(8) + norm(3, 4)", 18),
        ('$TargetDedicatedNodes = time("2026-11-22T10:30:00Z").weekday + time("2026-11-22").hour', 0),
        ("$TargetDedicatedNodes = (time() - time() < TimeInterval_Hour / 2) + 1", 2),
        ("$TargetDedicatedNodes = min($CurrentDedicatedNodes + 1, 9); stopped = stop(); $TargetDedicatedNodes = 7", 3),
        ("$TargetDedicatedNodes = avg($ActiveTasks.GetSample(TimeInterval_Minute, TimeInterval_Minute * 4, 90))", 5),
        (
            "$TargetDedicatedNodes = $RunningTasks.Count() > 50 ? $PendingTasks.GetSample(3 * TimeInterval_Second) : 1",
            7,
        ),
    ],
)
def test_formula_gives_this_many_nodes(formula: str, dedicated: int) -> None:
    evaluation = evaluated(formula)
    assert evaluation.error is None
    assert evaluation.targets.dedicated == dedicated


def test_usual_formula_divides_by_slots_and_waits_for_tasks() -> None:
    formula = BY_PENDING_TASKS.replace("min(2,", "min(20,")
    assert evaluated(formula, waiting=10, slots=4).targets == Targets(3, 0, "taskcompletion")
    assert evaluated(formula, waiting=10, minutes=0.5).targets == Targets(12, 0, "taskcompletion")


def test_results_name_every_variable() -> None:
    assert evaluated("x = 2; $TargetLowPriorityNodes = x").results == (
        "$TargetDedicatedNodes=2;$TargetLowPriorityNodes=2;$NodeDeallocationOption=requeue;x=2"
    )


@pytest.mark.parametrize(
    ("formula", "code"),
    [
        ("$TargetDedicatedNodes = $CPUPercent.GetSample(TimeInterval_Minute)", "InsufficientSampleData"),
        ("$TargetDedicatedNodes = $ActiveTasks.GetSample(TimeInterval_Hour, 80)", "InsufficientSampleData"),
        ("$TargetDedicatedNodes = unknown", "AutoScalingFormulaEvaluationError"),
        ("$TargetDedicatedNodes = 1 / 0", "AutoScalingFormulaEvaluationError"),
        ("$TargetDedicatedNodes = taskcompletion * 2 + 1", "AutoScalingFormulaEvaluationError"),
    ],
)
def test_formula_that_fails_leaves_the_targets_as_they_are(formula: str, code: str) -> None:
    evaluation = evaluated(formula)
    assert evaluation.error is not None
    assert evaluation.error.code == code
    assert evaluation.targets == Targets(2, 0)


@pytest.mark.parametrize(
    "formula", ["$useless", "a = (1 + ", "a = nosuch(1)", "a = 1 b = 2", "a = 1 # 2", "a=1;" * 101]
)
def test_text_that_is_no_formula_is_told(formula: str) -> None:
    assert check_formula(formula)


def test_pool_scales_from_zero_for_its_tasks_without_waiting_for_the_interval(
    start_azure: Callable[..., dict[str, str]],
) -> None:
    with batch_account(start_azure()) as batch:
        pool = batch.pool(scaleSettings={"autoScale": {"formula": BY_PENDING_TASKS, "evaluationInterval": "PT5M"}})
        assert list(batch.client.list_nodes(pool)) == []
        job = batch.job(pool)
        tasks = [batch.start(job, "sleep 0.5") for _ in range(3)]
        for task in tasks:
            batch.ended(job, task)
        assert list(batch.client.list_nodes(pool))
        run = batch.management.pool.get(GROUP, batch.account, pool).auto_scale_run
        assert run is not None
        assert "$NodeDeallocationOption=taskcompletion" in str(run.results)


def test_idle_pool_scales_to_zero_at_its_interval(start_azure: Callable[..., dict[str, str]]) -> None:
    formula = "$TargetDedicatedNodes = min(1, $PendingTasks.GetSample(1)); $NodeDeallocationOption = taskcompletion;"
    with batch_account(start_azure("--clock", "instant")) as batch:
        pool = batch.pool(scaleSettings={"autoScale": {"formula": formula, "evaluationInterval": "PT5M"}})
        job = batch.job(pool)
        info = batch.run(job, "sleep 2").execution_info
        assert info is not None
        assert info.requeue_count == 0
        batch.nodes(pool, 0)


def test_formula_is_tried_without_applying_it(start_azure: Callable[..., dict[str, str]]) -> None:
    with batch_account(start_azure()) as batch:
        pool = batch.pool(scaleSettings={"autoScale": {"formula": "$TargetDedicatedNodes = 0"}})
        run = batch.client.evaluate_pool_auto_scale(pool, {"autoScaleFormula": "$TargetDedicatedNodes = 3"})
        assert str(run.results).startswith("$TargetDedicatedNodes=3;")
        wrong = batch.client.evaluate_pool_auto_scale(pool, {"autoScaleFormula": "$TargetDedicatedNodes = nothing"})
        assert wrong.error is not None
        assert wrong.error.code == "AutoScalingFormulaEvaluationError"
        assert until(lambda: batch.client.get_pool(pool), lambda found: found.allocation_state == "steady")
        assert list(batch.client.list_nodes(pool)) == []


def test_pool_with_a_broken_formula_is_refused(start_azure: Callable[..., dict[str, str]]) -> None:
    with batch_account(start_azure()) as batch, pytest.raises(HttpResponseError, match="formula"):
        batch.pool(scaleSettings={"autoScale": {"formula": "$TargetDedicatedNodes = ("}})
