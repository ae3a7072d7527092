"""What a pool can be set to: defaults, limits, and what stays as it was made.

https://learn.microsoft.com/rest/api/batchmanagement/pool

Difference from Azure: a change of the identities is refused; Azure accepts it for nodes that are made later.
"""

import re
from datetime import timedelta
from typing import Any

from local_azure.arm.account_properties import user_assigned
from local_azure.arm.batch_errors import fixed_property, invalid_value, missing_property
from local_azure.arm.resources import with_defaults
from local_azure.arm.vm_sizes import VM_SIZES
from local_azure.batch.durations import parse_duration
from local_azure.batch.images import IMAGES
from local_azure.cloud import Cloud
from local_azure.identity.tokens import Principal
from local_azure.nodes.autoscale import LONGEST_FORMULA, check_formula
from local_azure.store import Document

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
FIXED = (
    "vmSize",
    "deploymentConfiguration",
    "taskSlotsPerNode",
    "taskSchedulingPolicy",
    "interNodeCommunication",
    "networkConfiguration",
    "userAccounts",
    "mountConfiguration",
    "displayName",
)
"""Properties that a pool keeps for good."""

CHANGEABLE = ("scaleSettings", "startTask", "metadata", "applicationPackages", "targetNodeCommunicationMode")
"""Properties that PATCH replaces, each as a whole."""

_SHORTEST_INTERVAL, _LONGEST_INTERVAL = timedelta(minutes=5), timedelta(hours=168)
_START_TASK_DEFAULTS = {
    "maxTaskRetryCount": 0,
    "userIdentity": {"autoUser": {"elevationLevel": "NonAdmin", "scope": "Pool"}},
    "waitForSuccess": True,
}


def new_properties(sent: Document) -> Document:
    """The settings of a pool that is made, whole and checked."""
    if not sent.get("vmSize"):
        raise missing_property("properties.vmSize")
    size = VM_SIZES.get(str(sent["vmSize"]).lower())
    if size is None:
        raise invalid_value("properties.vmSize", sent["vmSize"], "The specified VM size is not known in this region.")
    slots = sent.get("taskSlotsPerNode") or 1
    if not 1 <= slots <= size.most_task_slots:
        raise invalid_value(
            "properties.taskSlotsPerNode",
            slots,
            f"It must be between 1 and {size.most_task_slots} for the size {size.name}.",
        )
    properties = with_defaults(
        {key: value for key, value in sent.items() if key in FIXED and key != "deploymentConfiguration"},
        {
            "interNodeCommunication": "Disabled",
            "networkConfiguration": {
                "dynamicVnetAssignmentScope": "none",
                "enableAcceleratedNetworking": False,
                "publicIPAddressConfiguration": {"provision": "BatchManaged"},
            },
            "taskSchedulingPolicy": {"nodeFillType": "Spread"},
            "taskSlotsPerNode": slots,
        },
    )
    properties["vmSize"] = size.name.upper()  # as ARM answers it, whatever was sent
    properties["deploymentConfiguration"] = _deployment(sent.get("deploymentConfiguration") or {})
    return properties | changeable_properties({"scaleSettings": None, **sent})


def changeable_properties(sent: Document) -> Document:
    """Those settings in a body that a pool can change, each whole and checked."""
    changes = {key: sent[key] for key in CHANGEABLE if key in sent}
    if "scaleSettings" in changes:
        changes["scaleSettings"] = _scale_settings(changes["scaleSettings"] or {})
    if "startTask" in changes:
        start_task = changes["startTask"] or {}
        changes["startTask"] = _start_task(start_task) if start_task else None
    return changes


def refuse_fixed(known: Document, wanted: Document) -> None:
    """Let an update pass that leaves alone what stays for good.

    Raises:
        ArmError: 400 `PropertyCannotBeUpdated`.
    """
    for key in FIXED:
        if key in wanted and _canonical(wanted[key]) != _canonical(known.get(key)):
            raise fixed_property(f"properties.{key}")


def pool_identity(cloud: Cloud, caller: Principal, sent: Document | None) -> Document:
    """The identity of a pool that is made.

    Raises:
        ArmError: 400, an identity does not exist, or the type is none that pools have.
    """
    kind = (sent or {}).get("type") or "None"
    if kind == "None":
        return {"type": "None"}
    if kind != "UserAssigned":
        raise invalid_value("identity.type", kind, "A pool's identities are assigned by the user.")
    named = (sent or {}).get("userAssignedIdentities") or {}
    return {"type": kind, "userAssignedIdentities": user_assigned(cloud, caller, named)}


def _deployment(sent: Document) -> Document:
    path = "properties.deploymentConfiguration"
    machine = sent.get("virtualMachineConfiguration")
    if not machine:
        raise missing_property(f"{path}.virtualMachineConfiguration")
    reference = machine.get("imageReference") or {}
    if reference.get("id"):
        raise invalid_value(
            f"{path}.virtualMachineConfiguration.imageReference", reference["id"], "No custom images here."
        )
    names = [str(reference.get(key, "")) for key in ("publisher", "offer", "sku")]
    image = next((image for image in IMAGES if image.matches(*names)), None)
    if image is None:
        raise invalid_value(
            f"{path}.virtualMachineConfiguration.imageReference", "/".join(names), "Batch does not support this image."
        )
    if machine.get("nodeAgentSkuId") != image.node_agent:
        raise invalid_value(
            f"{path}.virtualMachineConfiguration.nodeAgentSkuId",
            machine.get("nodeAgentSkuId"),
            f"The image needs the node agent '{image.node_agent}'.",
        )
    whole = with_defaults(machine, {"imageReference": {"version": "latest"}})
    return {"virtualMachineConfiguration": whole}


def _scale_settings(sent: Document) -> Document:
    if sent.get("autoScale"):
        return {"autoScale": _auto_scale(sent["autoScale"])}
    fixed = sent.get("fixedScale") or {}
    # nodeDeallocationOption can be written but not read, as in Azure.
    settings: Document = {
        "resizeTimeout": fixed.get("resizeTimeout") or "PT15M",
        "targetDedicatedNodes": fixed.get("targetDedicatedNodes") or 0,
        "targetLowPriorityNodes": fixed.get("targetLowPriorityNodes") or 0,
    }
    path = "properties.scaleSettings.fixedScale"
    for key in ("targetDedicatedNodes", "targetLowPriorityNodes"):
        if not isinstance(settings[key], int) or settings[key] < 0:
            raise invalid_value(f"{path}.{key}", settings[key], "It must be a number of nodes.")
    _check_interval(f"{path}.resizeTimeout", settings["resizeTimeout"])
    return {"fixedScale": settings}


def _auto_scale(sent: Document) -> Document:
    path = "properties.scaleSettings.autoScale"
    formula = str(sent.get("formula") or "")
    if not formula:
        raise missing_property(f"{path}.formula")
    fault = f"It is longer than {LONGEST_FORMULA} bytes." if len(formula) > LONGEST_FORMULA else check_formula(formula)
    if fault:
        raise invalid_value(f"{path}.formula", formula, fault)
    interval = sent.get("evaluationInterval") or "PT15M"
    _check_interval(f"{path}.evaluationInterval", interval)
    return {"formula": formula, "evaluationInterval": interval}


def _check_interval(path: str, text: str) -> None:
    try:
        length = parse_duration(text)
    except ValueError as error:
        raise invalid_value(path, text, "It is no ISO 8601 duration.") from error
    if not _SHORTEST_INTERVAL <= length <= _LONGEST_INTERVAL:
        raise invalid_value(path, text, "It must be between 5 minutes and 168 hours.")


def _start_task(sent: Document) -> Document:
    if not sent.get("commandLine"):
        raise missing_property("properties.startTask.commandLine")
    return {**_START_TASK_DEFAULTS, **{key: value for key, value in sent.items() if value is not None}}


def _canonical(value: Any) -> Any:
    """Without regard to letter case, as Azure compares names of sizes and images."""
    match value:
        case str():
            return value.lower()
        case dict():
            return {key: _canonical(inner) for key, inner in value.items() if inner is not None}
        case list():
            return [_canonical(inner) for inner in value]
        case _:
            return value
