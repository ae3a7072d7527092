"""Pools and nodes as Batch documents them: limits of their size, how nodes leave and restart, who may become root."""

from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from local_pools import Batch, batch_account, fixed, until

ADMIN = {"autoUser": {"scope": "task", "elevationLevel": "admin"}}
IMAGE = {
    "imageReference": {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server"},
    "nodeAgentSKUId": "batch.node.ubuntu 24.04",
}
AUTOSCALED = "OperationInvalidForCurrentState"
FORMULA = "$TargetDedicatedNodes = 0;"


@pytest.fixture(scope="module")
def account(shared_azure: dict[str, str]) -> Iterator[Batch]:
    """The Batch account of this module."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in shared_azure.items():
            environment.setenv(name, value)
        with batch_account(shared_azure, "pools") as batch:
            yield batch


@pytest.fixture(scope="module")
def pool(account: Batch) -> str:
    """A pool of one node with two slots, which a test may restart."""
    return account.pool(taskSlotsPerNode=2)


@pytest.fixture
def batch(account: Batch, azure: dict[str, str]) -> Batch:
    """The account, with the clients pointed at its cloud."""
    return account


def refused(call: Any, *arguments: Any, **options: Any) -> str:
    """The code of a 400 or 409 that a call ends with."""
    with pytest.raises(HttpResponseError) as refusal:
        call(*arguments, **options)
    assert refusal.value.status_code in (400, 409)
    return str(refusal.value.error.code)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"vmSize": "standard_nonesuch"}, "InvalidPropertyValue"),
        ({"taskSlotsPerNode": 9}, "InvalidPropertyValue"),
        ({"targetDedicatedNodes": -1}, "InvalidPropertyValue"),
        ({"resizeTimeout": "PT4M59S"}, "InvalidPropertyValue"),
        ({"resizeTimeout": "soon"}, "InvalidPropertyValue"),
        ({"enableAutoScale": True}, "MissingRequiredProperty"),
        ({"autoScaleFormula": FORMULA}, "InvalidPropertyValue"),
        ({"enableAutoScale": True, "autoScaleFormula": FORMULA, "targetDedicatedNodes": 1}, "InvalidPropertyValue"),
        ({"enableAutoScale": True, "autoScaleFormula": "$TargetDedicatedNodes = ("}, "AutoScalingFormulaSyntaxError"),
        ({"enableAutoScale": True, "autoScaleFormula": FORMULA + " " * 8192}, "AutoScalingFormulaTooLong"),
        (
            {"enableAutoScale": True, "autoScaleFormula": FORMULA, "autoScaleEvaluationInterval": "PT4M"},
            "InvalidPropertyValue",
        ),
        (
            {"enableAutoScale": True, "autoScaleFormula": FORMULA, "autoScaleEvaluationInterval": "P7DT1S"},
            "InvalidPropertyValue",
        ),
    ],
)
def test_pool_beyond_the_limits_is_refused(batch: Batch, settings: dict[str, Any], code: str) -> None:
    body = {"id": "never", "vmSize": "standard_d2s_v3", "virtualMachineConfiguration": IMAGE, **settings}
    assert refused(batch.client.create_pool, body) == code


def test_pool_within_the_limits_is_made(batch: Batch) -> None:
    scale = {"enableAutoScale": True, "autoScaleFormula": FORMULA, "autoScaleEvaluationInterval": "P7D"}
    body = {"id": "scaled", "vmSize": "standard_d2s_v3", "virtualMachineConfiguration": IMAGE, "taskSlotsPerNode": 8}
    batch.client.create_pool({**body, **scale})
    assert batch.client.get_pool("scaled").enable_auto_scale
    assert refused(batch.client.begin_resize_pool, "scaled", {"targetDedicatedNodes": 1}) == AUTOSCALED
    broken = {"autoScaleFormula": "$TargetDedicatedNodes = ("}
    assert refused(batch.client.enable_pool_auto_scale, "scaled", broken) == "AutoScalingFormulaSyntaxError"


def test_durations_of_a_pool_come_back_in_their_shortest_form(batch: Batch) -> None:
    scale = {"enableAutoScale": True, "autoScaleFormula": FORMULA, "autoScaleEvaluationInterval": "PT06M00S"}
    body = {"id": "short", "vmSize": "standard_d2s_v3", "virtualMachineConfiguration": IMAGE}
    batch.client.create_pool(body | scale)
    assert batch.client.get_pool("short").as_dict()["autoScaleEvaluationInterval"] == "PT6M"
    batch.client.enable_pool_auto_scale("short", {"autoScaleEvaluationInterval": "PT0H90M"})
    told = batch.client.get_pool("short").as_dict()
    assert (told["autoScaleEvaluationInterval"], told["resizeTimeout"]) == ("PT1H30M", "PT15M")


@pytest.mark.parametrize(
    "resize",
    [
        {"targetDedicatedNodes": 1, "resizeTimeout": "PT1M"},
        {"targetDedicatedNodes": 1, "nodeDeallocationOption": "gently"},
        {"targetDedicatedNodes": "many"},
    ],
)
def test_resize_beyond_the_limits_is_refused(batch: Batch, pool: str, resize: dict[str, Any]) -> None:
    assert refused(batch.client.begin_resize_pool, pool, resize) == "InvalidPropertyValue"


def test_pool_that_is_being_resized_takes_no_other_resize(batch: Batch) -> None:
    other = batch.pool(scaleSettings=fixed(0))
    batch.client.begin_resize_pool(other, {"targetDedicatedNodes": 1})
    assert refused(batch.client.begin_resize_pool, other, {"targetDedicatedNodes": 2}) == "PoolBeingResized"


def test_stopped_resize_keeps_the_nodes_that_are_there_and_says_so(batch: Batch) -> None:
    other = batch.pool(scaleSettings=fixed(0))
    batch.client.begin_resize_pool(other, {"targetDedicatedNodes": 2})
    batch.client.begin_stop_pool_resize(other, polling_interval=0.1).result()
    shown = until(lambda: batch.client.get_pool(other), lambda found: found.allocation_state == "steady")
    assert [error.code for error in shown.resize_errors] == ["ResizeStopped"]
    assert (shown.current_dedicated_nodes, shown.target_dedicated_nodes) == (0, 2)


def test_node_is_counted_by_its_state_and_knows_its_slots(batch: Batch) -> None:
    start_task = {"commandLine": "/bin/bash -c 'sleep 1'"}
    other = batch.pool(taskSlotsPerNode=4, startTask=start_task)
    job = batch.job(other)
    tasks = [batch.start(job, "sleep 1", requiredSlots=2), batch.start(job, "sleep 1", requiredSlots=1)]
    batch.nodes(other, 1, "waitingforstarttask")
    assert (counts(batch, other).waiting_for_start_task, counts(batch, other).total) == (1, 1)
    assert batch.client.get_task(job, tasks[0]).state == "active"
    for task in tasks:
        batch.running(job, task)
    (node,) = batch.nodes(other, 1, "running")
    assert (node.running_tasks_count, node.running_task_slots_count) == (2, 3)
    assert counts(batch, other).running == 1
    for task in tasks:
        batch.ended(job, task)
    (node,) = batch.nodes(other, 1, "idle")
    assert (node.total_tasks_run, node.total_tasks_succeeded) == (2, 2)
    assert {task.task_id for task in node.recent_tasks} == set(tasks)


def counts(batch: Batch, pool: str) -> Any:
    """How many of a pool's dedicated nodes are in which state."""
    (found,) = batch.client.list_pool_node_counts(filter=f"poolId eq '{pool}'")
    return found.dedicated


@pytest.mark.parametrize(
    ("option", "state", "failure", "requeues"),
    [
        ("requeue", "active", "", 1),
        ("terminate", "completed", "TaskEnded", 0),
        ("taskcompletion", "completed", "", 0),
    ],
)
def test_removed_node_does_with_its_task_what_was_asked(
    batch: Batch, option: str, state: str, failure: str, requeues: int
) -> None:
    other = batch.pool()
    job = batch.job(other)
    task = batch.start(job, "sleep 1")
    node = batch.running(job, task).node_info.node_id
    until(lambda: batch.client.get_pool(other).allocation_state, lambda found: found == "steady")
    removed = {"nodeList": [node], "nodeDeallocationOption": option}
    batch.client.begin_remove_nodes(other, removed, polling_interval=0.1).result()
    batch.nodes(other, 0)
    found = batch.client.get_task(job, task)
    info = found.execution_info
    assert (found.state, info.requeue_count) == (state, requeues)
    assert (info.failure_info.code if info.failure_info else "") == failure
    assert batch.client.get_pool(other).target_dedicated_nodes == 0


@pytest.mark.parametrize(
    ("option", "failure", "requeues"), [("requeue", "", 1), ("terminate", "TaskEnded", 0), ("taskcompletion", "", 0)]
)
def test_restarted_node_does_with_its_task_what_was_asked(
    batch: Batch, pool: str, option: str, failure: str, requeues: int
) -> None:
    job = batch.job(pool)
    task = batch.start(job, "sleep 1")
    node = batch.running(job, task).node_info.node_id
    restart = {"nodeRebootOption": option}
    batch.client.begin_reboot_node(pool, node, options=restart, polling_interval=0.1).result()
    info = batch.ended(job, task).execution_info
    assert info.requeue_count == requeues
    assert (info.failure_info.code if info.failure_info else "") == failure
    assert batch.nodes(pool, 1)[0].id == node


def test_unknown_way_to_restart_is_refused(batch: Batch, pool: str) -> None:
    (node,) = batch.nodes(pool, 1)
    restart = {"nodeRebootOption": "gently"}
    assert refused(batch.client.begin_reboot_node, pool, node.id, options=restart) == "InvalidPropertyValue"


def test_node_that_is_not_up_is_not_restarted(batch: Batch) -> None:
    other = batch.pool(startTask={"commandLine": "/bin/bash -c 'sleep 2'"})
    (node,) = batch.nodes(other, 1, "waitingforstarttask")
    restart = {"nodeRebootOption": "requeue"}
    assert refused(batch.client.begin_reboot_node, other, node.id, options=restart) == "OperationNotValidOnNode"


@pytest.mark.parametrize("program", ["sudo", "apt-get"])
def test_only_an_administrator_becomes_root(batch: Batch, pool: str, program: str) -> None:
    job = batch.job(pool)
    codes = [
        batch.run(job, f"{program} true", **identity).execution_info.exit_code
        for identity in ({}, {"userIdentity": ADMIN})
    ]
    assert [code == 0 for code in codes] == [False, True]


def test_named_user_is_an_administrator_if_the_pool_says_so(batch: Batch) -> None:
    users = [{"name": name, "password": "Pass-word-1", "elevationLevel": level} for name, level in LEVELS.items()]
    other = batch.pool(userAccounts=users)
    job = batch.job(other)
    codes = {
        name: batch.run(job, "sudo true", userIdentity={"username": name}).execution_info.exit_code for name in LEVELS
    }
    assert codes == {"root-like": 0, "plain": 1}


LEVELS = {"root-like": "Admin", "plain": "NonAdmin"}


def test_start_task_is_no_administrator_by_default(batch: Batch) -> None:
    other = batch.pool(startTask={"commandLine": "sudo true"})
    (node,) = batch.nodes(other, 1, "starttaskfailed")
    assert node.start_task.user_identity.auto_user.elevation_level == "nonadmin"
    assert batch.node_file(other, str(node.id), "startup/stderr.txt") == "sudo: a password is required\n"


def test_file_of_a_node_is_deleted(batch: Batch, pool: str) -> None:
    job = batch.job(pool)
    node = batch.run(job, "echo x > $AZ_BATCH_NODE_SHARED_DIR/file").node_info.node_id
    assert batch.node_file(pool, node, "shared/file") == "x\n"
    batch.client.delete_node_file(pool, node, "shared/file")
    there = {file.name for file in batch.client.list_node_files(pool, node, recursive=True)}
    assert "shared" in there
    assert "shared/file" not in there
