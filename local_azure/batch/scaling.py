"""Limits of what sets a pool's size.

https://learn.microsoft.com/rest/api/batchservice/pool/add, `…/pool/resize`, `…/pools/remove-nodes` and
`…/pools/enable-pool-auto-scale`. Difference: autoscale may be enabled again within 30 seconds.
"""

from datetime import timedelta

from local_azure.arm.vm_sizes import VM_SIZES
from local_azure.batch.durations import parse_duration
from local_azure.batch.refusals import DetailedError, invalid_property, missing_property
from local_azure.nodes.autoscale import LONGEST_FORMULA, check_formula
from local_azure.store import Document

SHORTEST_INTERVAL, LONGEST_INTERVAL = timedelta(minutes=5), timedelta(hours=168)
"""Of an autoscale interval; the first is the least of a `resizeTimeout`, too."""
DEALLOCATION_OPTIONS = ("requeue", "terminate", "taskcompletion", "retaineddata")
_TARGETS = ("targetDedicatedNodes", "targetLowPriorityNodes")
_UNREADABLE = "The value is no ISO 8601 duration."


def check_new_pool(body: Document) -> None:
    """Hold a pool's VM size, slots and scale to what the service takes."""
    size = VM_SIZES.get(str(body["vmSize"]).lower())
    if size is None:
        raise invalid_property("vmSize", body["vmSize"], "The specified VM size is not known in this region.")
    slots = body.get("taskSlotsPerNode", 1)
    if not isinstance(slots, int) or not 1 <= slots <= size.most_task_slots:
        raise invalid_property(
            "taskSlotsPerNode", slots, f"The value must be between 1 and {size.most_task_slots} for this size."
        )
    if body.get("enableAutoScale"):
        _check_automatic(body)
    elif "autoScaleFormula" in body:
        raise invalid_property("autoScaleFormula", body["autoScaleFormula"], "enableAutoScale is not set.")
    check_resize(body)


def _check_automatic(body: Document) -> None:
    if not body.get("autoScaleFormula"):
        raise missing_property("autoScaleFormula")
    for name in _TARGETS:
        if name in body:
            raise invalid_property(name, body[name], "It can't be given where enableAutoScale is set.")
    check_autoscale(body)


def check_resize(body: Document) -> None:
    """Hold the targets and the timeout of a resize to what the service takes."""
    for name in _TARGETS:
        if name in body and (not isinstance(body[name], int) or body[name] < 0):
            raise invalid_property(name, body[name], "The value must be a number of nodes.")
    _check_interval("resizeTimeout", body, None)


def check_autoscale(body: Document) -> None:
    """Hold a formula and its interval to what the service takes."""
    formula = body.get("autoScaleFormula") or ""
    if len(formula) > LONGEST_FORMULA:
        raise DetailedError(
            400, "AutoScalingFormulaTooLong", "The specified auto-scaling formula exceeds lengths limit."
        )
    fault = check_formula(formula)
    if fault:
        raise DetailedError(
            400,
            "AutoScalingFormulaSyntaxError",
            "The specified auto-scaling formula has a syntax error.",
            Reason=fault,
        )
    _check_interval("autoScaleEvaluationInterval", body, LONGEST_INTERVAL)


def deallocation_option(body: Document) -> str:
    """What is to become of the tasks of nodes that leave."""
    option = str(body.get("nodeDeallocationOption") or "requeue")
    if option not in DEALLOCATION_OPTIONS:
        raise invalid_property(
            "nodeDeallocationOption", option, f"The value must be one of {', '.join(DEALLOCATION_OPTIONS)}."
        )
    return option


def _check_interval(name: str, body: Document, longest: timedelta | None) -> None:
    if name not in body:
        return
    try:
        length = parse_duration(body[name])
    except (TypeError, ValueError) as error:
        raise invalid_property(name, body[name], _UNREADABLE) from error
    if length < SHORTEST_INTERVAL or (longest and length > longest):
        limits = f"between 5 minutes and {longest}" if longest else "at least 5 minutes"
        raise invalid_property(name, body[name], f"The value must be {limits}.")
