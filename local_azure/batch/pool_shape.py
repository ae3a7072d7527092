"""One pool, two shapes: ARM's document, which is the one kept, and the data plane's.

https://learn.microsoft.com/rest/api/batchmanagement/pool/get and
https://learn.microsoft.com/rest/api/batchservice/pool/get. They differ in the names of a few properties,
in the letter case of enumerations, except `nodeFillType` as recorded answers show, and in what is nested.
"""

from typing import Any

from local_azure.batch.durations import normal_duration
from local_azure.clock import ticks
from local_azure.store import Document

_RENAMED = {
    "nodeAgentSkuId": "nodeAgentSKUId",
    "userName": "username",
    "dynamicVnetAssignmentScope": "dynamicVNetAssignmentScope",
    "inboundNatPools": "inboundNATPools",
}
_ENUMERATIONS = {
    "scope": ("Task", "Pool"),
    "elevationLevel": ("NonAdmin", "Admin"),
    "nodeFillType": ("Spread", "Pack"),
    "provision": ("BatchManaged", "UserManaged", "NoPublicIPAddresses"),
    "policy": ("Regional", "Zonal"),
    "caching": ("None", "ReadOnly", "ReadWrite"),
    "dynamicVNetAssignmentScope": ("none", "job"),
    "nodeDeallocationOption": ("Requeue", "Terminate", "TaskCompletion", "RetainedData"),
}
_LOWERED = _ENUMERATIONS.keys() - {"nodeFillType"}
_START_TASK = {
    "maxTaskRetryCount": 0,
    "userIdentity": {"autoUser": {"scope": "Pool", "elevationLevel": "NonAdmin"}},
    "waitForSuccess": True,
}
_SAME = ("displayName", "vmSize", "startTask", "networkConfiguration", "taskSlotsPerNode", "taskSchedulingPolicy")
_SAME_LISTS = ("userAccounts", "metadata", "mountConfiguration", "upgradePolicy")
_SECRETS = ("password", "sshPrivateKey")


def data_plane_pool(pool: Document, url: str) -> Document:
    """The pool as the data plane answers it."""
    own = pool["properties"]
    fixed = own.get("scaleSettings", {}).get("fixedScale")
    resize = own.get("resizeOperationStatus") or fixed or {}
    machine = own.get("deploymentConfiguration", {}).get("virtualMachineConfiguration")
    answer: Document = {
        "id": pool["name"],
        "displayName": own.get("displayName"),
        "url": url,
        "eTag": pool["etag"].removeprefix("W/").strip('"'),
        "lastModified": own["lastModified"],
        "creationTime": own["creationTime"],
        "state": "deleting" if own["provisioningState"] == "Deleting" else "active",
        "stateTransitionTime": own.get("provisioningStateTransitionTime", own["creationTime"]),
        "allocationState": own.get("allocationState", "Steady").lower(),
        "allocationStateTransitionTime": own.get("allocationStateTransitionTime", own["creationTime"]),
        "vmSize": own["vmSize"].lower(),
        "virtualMachineConfiguration": _to_data_plane(machine),
        "resizeTimeout": normal_duration(resize.get("resizeTimeout", "PT15M")),
        "resizeErrors": _resize_errors(own),
        "currentDedicatedNodes": own.get("currentDedicatedNodes", 0),
        "currentLowPriorityNodes": own.get("currentLowPriorityNodes", 0),
        "targetDedicatedNodes": resize.get("targetDedicatedNodes", 0),
        "targetLowPriorityNodes": resize.get("targetLowPriorityNodes", 0),
        **_autoscale(own),
        "enableInterNodeCommunication": own.get("interNodeCommunication") == "Enabled",
        **{name: _to_data_plane(own.get(name)) for name in _SAME[2:]},
        **{name: _to_data_plane(own.get(name)) or None for name in _SAME_LISTS},
        "identity": _identity(pool.get("identity")),
    }
    return {name: value for name, value in answer.items() if value is not None}


def _autoscale(own: Document) -> Document:
    settings = own.get("scaleSettings", {}).get("autoScale")
    if not settings:
        return {"enableAutoScale": False}
    return {
        "enableAutoScale": True,
        "autoScaleFormula": settings["formula"],
        "autoScaleEvaluationInterval": normal_duration(settings.get("evaluationInterval", "PT15M")),
        "autoScaleRun": _autoscale_run(own.get("autoScaleRun")),
    }


def _autoscale_run(run: Document | None) -> Document | None:
    if not run:
        return None
    answer = {"timestamp": run["evaluationTime"], "results": run.get("results"), "error": _error(run.get("error"))}
    return {name: value for name, value in answer.items() if value is not None}


def _resize_errors(own: Document) -> list[Document | None] | None:
    errors = (own.get("resizeOperationStatus") or {}).get("errors")
    return [_error(error) for error in errors] if errors else None


def _error(error: Document | None) -> Document | None:
    """ARM nests `details` where the data plane has `values` of names and texts."""
    if not error:
        return None
    told = {name: error[name] for name in ("code", "message") if error.get(name)}
    values = [{"name": one["code"], "value": one["message"]} for one in error.get("details") or ()]
    return told | ({"values": values} if values else {})


def _identity(identity: Document | None) -> Document | None:
    if not identity or identity.get("type") in (None, "None"):
        return None
    assigned = [{"resourceId": name, **ids} for name, ids in (identity.get("userAssignedIdentities") or {}).items()]
    return {"type": identity["type"], "userAssignedIdentities": assigned}


def arm_properties(body: Document) -> Document:
    """Properties of an ARM document from the body of a data-plane request; only what it names."""
    own = {name: _to_arm(body[name]) for name in _SAME + _SAME_LISTS if name in body}
    if "virtualMachineConfiguration" in body:
        machine = _to_arm(body["virtualMachineConfiguration"])
        machine["imageReference"] = {"version": "latest"} | machine["imageReference"]
        own["deploymentConfiguration"] = {"virtualMachineConfiguration": machine}
    if "enableInterNodeCommunication" in body:
        own["interNodeCommunication"] = "Enabled" if body["enableInterNodeCommunication"] else "Disabled"
    if "startTask" in own:
        own["startTask"] = _START_TASK | own["startTask"]
    return own


def scale_settings(body: Document) -> Document:
    """ARM's scale settings from the body of a data-plane request."""
    if body.get("enableAutoScale") or "autoScaleFormula" in body:
        interval = body.get("autoScaleEvaluationInterval", "PT15M")
        return {"autoScale": {"formula": body["autoScaleFormula"], "evaluationInterval": interval}}
    fixed = {
        "targetDedicatedNodes": body.get("targetDedicatedNodes", 0),
        "targetLowPriorityNodes": body.get("targetLowPriorityNodes", 0),
        "resizeTimeout": body.get("resizeTimeout", "PT15M"),
    }
    if "nodeDeallocationOption" in body:
        fixed["nodeDeallocationOption"] = _arm_value("nodeDeallocationOption", body["nodeDeallocationOption"])
    return {"fixedScale": fixed}


def new_arm_pool(account: Document, body: Document, etag: str, moment: Any) -> Document:
    """The ARM document of a pool that is created on the data plane; such a pool has no identity."""
    time = ticks(moment)
    wants_nodes = body.get("targetDedicatedNodes") or body.get("targetLowPriorityNodes")
    return {
        # Azure answers pool ids with `resourcegroups` in lower case.
        "id": f"{account['id'].replace('/resourceGroups/', '/resourcegroups/')}/pools/{body['id']}",
        "name": body["id"],
        "type": "Microsoft.Batch/batchAccounts/pools",
        "etag": etag,
        "identity": {"type": "None"},
        "properties": {
            "taskSlotsPerNode": 1,
            "taskSchedulingPolicy": {"nodeFillType": "Spread"},
            "interNodeCommunication": "Disabled",
            **arm_properties(body),
            "lastModified": time,
            "creationTime": time,
            "provisioningState": "Succeeded",
            "provisioningStateTransitionTime": time,
            "allocationState": "Resizing" if wants_nodes else "Steady",
            "allocationStateTransitionTime": time,
            "currentDedicatedNodes": 0,
            "currentLowPriorityNodes": 0,
            "scaleSettings": scale_settings(body),
        },
    }


def _to_data_plane(value: Any, name: str = "") -> Any:
    if isinstance(value, list):
        return [_to_data_plane(one) for one in value]
    if not isinstance(value, dict):
        return value.lower() if name in _LOWERED and isinstance(value, str) else value
    image: dict[str, str] = {"id": "virtualMachineImageId"} if name == "imageReference" else {}
    renamed = _RENAMED | image
    kept = {str(renamed.get(key, key)): inner for key, inner in value.items() if key not in _SECRETS}
    return {key: _to_data_plane(inner, key) for key, inner in kept.items()}


def _to_arm(value: Any, name: str = "") -> Any:
    if isinstance(value, list):
        return [_to_arm(one) for one in value]
    if not isinstance(value, dict):
        return _arm_value(name, value)
    renamed = {theirs: ours for ours, theirs in _RENAMED.items()} | {"virtualMachineImageId": "id"}
    return {renamed.get(key, key): _to_arm(inner, key) for key, inner in value.items()}


def _arm_value(name: str, value: Any) -> Any:
    choices = {choice.lower(): choice for choice in _ENUMERATIONS.get(name, ())}
    return choices.get(value.lower(), value) if isinstance(value, str) else value
