"""What live Batch accounts answered: the shapes of answers that Azure/azure-cli recorded of them.

The recordings are `src/azure-cli/azure/cli/command_modules/batch/tests/latest/recordings/*.yaml` of
https://github.com/Azure/azure-cli. Written down here: which status, which headers, which properties of which kind.
Left out are headers of the way to the service (server, cache and edge) and counts of the calls that a caller has left.

A shape is a word of `KINDS`, `=text` for that very text, a number or a truth value for itself, a mapping with exactly
these properties (`*` stands for any names, and a name with a question mark may be absent), or a list whose elements
all have the shape in it.
"""

import re
from typing import Any, NamedTuple

KINDS = {
    "text": ".+",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?Z",
    "whole seconds": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "date": r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
    "duration": r"P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?",
    "guid": "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "tag": "0x[0-9A-F]{15}",
    "quoted tag": '"0x[0-9A-F]{15}"',
    "url": "https://[^ %]+",
    "encoded url": "https%3A%2F%2F[^/:]+",
    "operation": "https://.+/(operationResults|accountOperationResults)/[0-9a-z-]+[?]api-version=.+",
    "endpoint": "[^/:]+(:[0-9]+)?(/.+)?",
    "id": "/subscriptions/[0-9a-f-]{36}/resourceGroups/.+",
    "id in small letters": "/subscriptions/[0-9a-f-]{36}/resourcegroups/.+",
}
"""Regular expressions of texts, by the word for them; besides there is `integer`."""


class Recorded(NamedTuple):
    """One answer: its recording (without `test_batch_` and `.yaml`), status, headers and body."""

    recording: str
    status: int
    headers: dict[str, str]
    body: Any = None


_PLAIN = {"dataserviceversion": "=3.0", "request-id": "guid", "x-content-type-options": "=nosniff"}
_JSON = _PLAIN | {"content-type": "=application/json;odata=minimalmetadata"}
_TAGGED = {"etag": "tag", "last-modified": "date"}
_CHANGED = _PLAIN | _TAGGED | {"dataserviceid": "url"}
_CREATED = _CHANGED | {"location": "url"}
_FILE = _PLAIN | {
    "content-type": "=text/plain",
    "last-modified": "date",
    "ocp-batch-file-isdirectory": "=False",
    "ocp-batch-file-url": "encoded url",
    "ocp-creation-time": "date",
}
_ARM = {"cache-control": "=no-cache", "expires": "=-1", "pragma": "=no-cache", "x-content-type-options": "=nosniff"}
_ARM_JSON = _ARM | {"content-type": "=application/json; charset=utf-8"}
_ARM_TAGGED = _ARM_JSON | {"etag": "quoted tag", "last-modified": "date"}

_FOREVER = "=P10675199DT2H48M5.4775807S"
_PAIRS = [{"name": "text", "value": "text"}]
_NON_ADMIN = {"autoUser": {"scope": "=pool", "elevationLevel": "=nonadmin"}}
_START_TASK = {
    "commandLine": "text",
    "userIdentity": _NON_ADMIN,
    "maxTaskRetryCount": 0,
    "waitForSuccess": True,
}
_NAMED = {"id": "text", "url": "url", "eTag": "tag", "lastModified": "time", "creationTime": "time"}
_ACTIVE = {"state": "=active", "stateTransitionTime": "time"}

_POOL = {
    **_NAMED,
    **_ACTIVE,
    "allocationState": "text",
    "allocationStateTransitionTime": "time",
    "vmSize": "text",
    "resizeTimeout": "=PT15M",
    "currentDedicatedNodes": "integer",
    "targetDedicatedNodes": "integer",
    "currentLowPriorityNodes": "integer",
    "targetLowPriorityNodes": "integer",
    "enableAutoScale": False,
    "enableInterNodeCommunication": False,
    "taskSlotsPerNode": 1,
    "taskSchedulingPolicy": {"nodeFillType": "=Spread"},
    "virtualMachineConfiguration": {
        "imageReference": {"publisher": "text", "offer": "text", "sku": "text", "version": "=latest"},
        "nodeAgentSKUId": "text",
    },
}
_JOB = {
    **_NAMED,
    **_ACTIVE,
    "priority": 0,
    "maxParallelTasks": -1,
    "usesTaskDependencies": False,
    "allowTaskPreemption": False,
    "constraints": {"maxWallClockTime": _FOREVER, "maxTaskRetryCount": 5},
    "jobManagerTask": {
        "id": "text",
        "commandLine": "text",
        "environmentSettings": _PAIRS,
        "constraints": {"maxWallClockTime": _FOREVER, "retentionTime": "=P7D", "maxTaskRetryCount": 5},
        "requiredSlots": 1,
        "userIdentity": _NON_ADMIN,
        "runExclusive": True,
        "allowLowPriorityNode": True,
        "killJobOnCompletion": True,
    },
    "poolInfo": {"poolId": "text"},
    "metadata": _PAIRS,
    "executionInfo": {"startTime": "time", "poolId": "text"},
    "onAllTasksComplete": "=noaction",
    "onTaskFailure": "=noaction",
}
_TASK = {
    **_NAMED,
    **_ACTIVE,
    "commandLine": "text",
    "userIdentity": _NON_ADMIN,
    "constraints": {"maxWallClockTime": _FOREVER, "retentionTime": "=P7D", "maxTaskRetryCount": 5},
    "requiredSlots": 1,
    "executionInfo": {"retryCount": 0, "requeueCount": 0},
}
_COUNTS = dict.fromkeys(("active", "running", "completed", "succeeded", "failed"), "integer")
_NODES = dict.fromkeys(
    (
        "creating", "idle", "leavingPool", "offline", "preempted", "rebooting", "reimaging", "running", "starting",
        "startTaskFailed", "unusable", "unknown", "upgradingOS", "waitingForStartTask", "total",
    ),
    "integer",
)  # fmt: skip
_ENDED = {"startTime": "time", "endTime": "time", "exitCode": 0, "result": "=success", "retryCount": 0}
_NODE = {
    "id": "text",
    "url": "url",
    "state": "text",
    "schedulingState": "=enabled",
    "stateTransitionTime": "time",
    "lastBootTime": "time",
    "allocationTime": "time",
    "ipAddress": "text",
    "affinityId": "text",
    "vmSize": "=standard_d2s_v3",
    "totalTasksRun": "integer",
    "totalTasksSucceeded": "integer",
    "runningTasksCount": "integer",
    "runningTaskSlotsCount": "integer",
    "recentTasks": [
        {
            "taskUrl": "url",
            "jobId": "text",
            "taskId": "text",
            "taskState": "=completed",
            "executionInfo": _ENDED | {"requeueCount": 0},
        }
    ],
    "startTask": _START_TASK,
    "startTaskInfo": {"state": "=completed", **_ENDED},
    "certificateReferences": [],
    "isDedicated": True,
    "endpointConfiguration": {
        "inboundEndpoints": [
            {
                "name": "text",
                "protocol": "=tcp",
                "publicIPAddress": "text",
                "publicFQDN": "text",
                "frontendPort": "integer",
                "backendPort": "integer",
            }
        ]
    },
    "nodeAgentInfo": {"lastUpdateTime": "time", "version": "text"},
    "virtualMachineInfo": {
        "imageReference": {
            "publisher": "text",
            "offer": "text",
            "sku": "text",
            "version": "=latest",
            "exactVersion": "=latest",
        }
    },
}
_IMAGE = {
    "imageReference": {"publisher": "text", "offer": "text", "sku": "text", "version": "=latest"},
    "verificationType": "text",
    "nodeAgentSKUId": "text",
    "osType": "text",
    "capabilities?": ["text"],
    "batchSupportEndOfLife?": "whole seconds",
}
_ACCOUNT: dict[str, Any] = {
    "id": "id",
    "name": "text",
    "type": "=Microsoft.Batch/batchAccounts",
    "location": "text",
    "properties": {
        "accountEndpoint": "endpoint",
        "nodeManagementEndpoint": "endpoint",
        "provisioningState": "=Succeeded",
        "dedicatedCoreQuota": "integer",
        "dedicatedCoreQuotaPerVMFamily": [{"name": "text", "coreQuota": "integer"}],
        "dedicatedCoreQuotaPerVMFamilyEnforced": True,
        "lowPriorityCoreQuota": "integer",
        "poolQuota": "integer",
        "activeJobAndJobScheduleQuota": "integer",
        "poolAllocationMode": "=BatchService",
        "publicNetworkAccess": "=Enabled",
        "privateEndpointConnections": [],
        "encryption": {"keySource": "=Microsoft.Batch"},
        "allowedAuthenticationModes": ["text"],
    },
    "identity": {"type": "=None"},
}
_GROUP = {
    "id": "id",
    "name": "text",
    "type": "=Microsoft.Resources/resourceGroups",
    "location": "text",
    "tags?": {"*": "text"},
    "properties": {"provisioningState": "=Succeeded"},
}
_IDENTITY = {
    "location": "text",
    "tags": {},
    "id": "id in small letters",
    "name": "text",
    "type": "=Microsoft.ManagedIdentity/userAssignedIdentities",
    "properties": {"tenantId": "guid", "principalId": "guid", "clientId": "guid"},
}
_ENCRYPTED = {"keyType": "=Account", "enabled": True, "lastEnabledTime": "time"}
_STORAGE = {
    "sku": {"name": "=Standard_LRS", "tier": "=Standard"},
    "kind": "=Storage",
    "id": "id",
    "name": "text",
    "type": "=Microsoft.Storage/storageAccounts",
    "location": "text",
    "tags": {},
    "properties": {
        "keyCreationTime": {"key1": "time", "key2": "time"},
        "allowCrossTenantReplication": False,
        "privateEndpointConnections": [],
        "minimumTlsVersion": "=TLS1_0",
        "allowBlobPublicAccess": False,
        "networkAcls": {
            "ipv6Rules": [],
            "bypass": "=AzureServices",
            "virtualNetworkRules": [],
            "ipRules": [],
            "defaultAction": "=Allow",
        },
        "supportsHttpsTrafficOnly": True,
        "encryption": {"services": {"file": _ENCRYPTED, "blob": _ENCRYPTED}, "keySource": "=Microsoft.Storage"},
        "provisioningState": "=Succeeded",
        "creationTime": "time",
        "primaryEndpoints": {"blob": "url", "queue": "url", "table": "url", "file": "url"},
        "primaryLocation": "text",
        "statusOfPrimary": "=available",
    },
}


def _one(body: dict[str, Any]) -> dict[str, Any]:
    return {"odata.metadata": "url", **body}


def _many(body: Any) -> dict[str, Any]:
    return {"odata.metadata": "url", "value": [body]}


def _refusal(code: str, **values: str) -> dict[str, Any]:
    told = {"values": [{"key": "text", "value": "text"}]} if values else {}
    return _one({"code": f"={code}", "message": {"lang": "=en-US", "value": "text"}, **told})


RECORDED = {
    "create a pool": Recorded("file_download_cmd", 201, _CREATED),
    "get a pool": Recorded("pool_cmd", 200, _JSON | _TAGGED, _one(_POOL)),
    "list pools": Recorded("pools_and_nodes", 200, _JSON, _many(_POOL)),
    "select of a pool": Recorded("pools_and_nodes", 200, _JSON | _TAGGED, _one({"enableAutoScale": False})),
    "resize a pool": Recorded("pool_cmd", 202, _CHANGED),
    "stop a resize": Recorded("pool_cmd", 202, _CHANGED),
    "enable autoscale": Recorded("pools_and_nodes", 200, _CHANGED),
    "evaluate autoscale": Recorded(
        "pools_and_nodes",
        200,
        _JSON | {"dataserviceid": "url"},
        _one(
            {
                "timestamp": "time",
                "results": "=$TargetDedicatedNodes=0;$TargetLowPriorityNodes=3;$NodeDeallocationOption=requeue",
            }
        ),
    ),
    "disable autoscale": Recorded("pools_and_nodes", 200, _CHANGED),
    "patch a pool": Recorded("pools_and_nodes", 200, _CHANGED),
    "get a patched start task": Recorded("pools_and_nodes", 200, _JSON | _TAGGED, _one({"startTask": _START_TASK})),
    "replace a pool's properties": Recorded("pool_cmd", 204, _CHANGED),
    "get a replaced pool": Recorded(
        "pool_cmd",
        200,
        _JSON | _TAGGED,
        _one(
            {
                **_POOL,
                "startTask": _START_TASK,
                "resizeErrors": [{"code": "=ResizeStopped", "message": "text"}],
                "certificateReferences": [],
                "targetNodeCommunicationMode": "=default",
            }
        ),
    ),
    "delete a pool": Recorded("pool_cmd", 202, _PLAIN),
    "create a pool of no image": Recorded(
        "pool_cmd", 400, _JSON, _refusal("InvalidPropertyValue", PropertyName="", PropertyValue="", Reason="")
    ),
    "count nodes": Recorded(
        "pool_cmd", 200, _JSON, _many({"poolId": "text", "dedicated": _NODES, "lowPriority": _NODES})
    ),
    "list nodes": Recorded("file_download_cmd", 200, _JSON, _many(_NODE)),
    "list images": Recorded("pools_and_nodes", 200, _JSON, _many(_IMAGE)),
    "download a node's file": Recorded("file_download_cmd", 200, _FILE),
    "download a part of a node's file": Recorded("file_download_cmd", 200, _FILE),
    "create a job": Recorded("jobs_and_tasks", 201, _CREATED),
    "get a job": Recorded("jobs_and_tasks", 200, _JSON | _TAGGED, _one(_JOB)),
    "patch a job": Recorded("jobs_and_tasks", 200, _CHANGED),
    "get a patched job": Recorded(
        "jobs_and_tasks",
        200,
        _JSON | _TAGGED,
        _one(
            {
                **_JOB,
                "constraints": {"maxWallClockTime": "=P1279DT12H30M5S", "maxTaskRetryCount": 0},
                "onAllTasksComplete": "=terminatejob",
            }
        ),
    ),
    "replace a job that has changed": Recorded("jobs_and_tasks", 412, _JSON, _refusal("ConditionNotMet")),
    "replace a job": Recorded("jobs_and_tasks", 200, _CHANGED),
    "get a replaced job": Recorded(
        "jobs_and_tasks",
        200,
        _JSON | _TAGGED,
        _one(
            {
                **{name: shape for name, shape in _JOB.items() if name != "metadata"},
                "constraints": {"maxWallClockTime": _FOREVER, "maxTaskRetryCount": 0},
                "onAllTasksComplete": "=terminatejob",
            }
        ),
    ),
    "list jobs": Recorded("job_list_cmd", 200, _JSON, _many(_JOB)),
    "create a task": Recorded("task_create_cmd", 201, _CREATED),
    "get a task": Recorded("task_create_cmd", 200, _JSON | _TAGGED, _one(_TASK)),
    "delete a task": Recorded("task_create_cmd", 200, _PLAIN),
    "create a collection of tasks": Recorded(
        "file_download_cmd",
        200,
        _JSON,
        _many({"status": "=Success", "taskId": "text", "eTag": "tag", "lastModified": "time", "location": "url"}),
    ),
    "count tasks": Recorded("task_create_cmd", 200, _JSON, _one({"taskCounts": _COUNTS, "taskSlotCounts": _COUNTS})),
    "download a task's file": Recorded("file_download_cmd", 200, _FILE),
    "download a part of a task's file": Recorded("file_download_cmd", 200, _FILE),
    "delete a job": Recorded("task_create_cmd", 202, _PLAIN),
    "put a Batch account": Recorded("jobs_and_tasks", 202, _ARM | {"location": "operation"}),
    "poll a Batch account": Recorded("jobs_and_tasks", 200, _ARM_TAGGED, _ACCOUNT),
    "get a Batch account": Recorded("jobs_and_tasks", 200, _ARM_TAGGED, _ACCOUNT),
    "list a Batch account's keys": Recorded(
        "jobs_and_tasks", 200, _ARM_JSON, {"accountName": "text", "primary": "text", "secondary": "text"}
    ),
    "renew a Batch account's key": Recorded(
        "account_cmd", 200, _ARM_JSON, {"accountName": "text", "primary": "text", "secondary": "text"}
    ),
    "give a Batch account an identity": Recorded(
        "managed_identity_cmd",
        200,
        _ARM_TAGGED,
        {
            **_ACCOUNT,
            "identity": {
                "type": "=UserAssigned",
                "userAssignedIdentities": {"*": {"principalId": "guid", "clientId": "guid"}},
            },
        },
    ),
    "give a Batch account a storage account": Recorded(
        "general_arm_cmd",
        200,
        _ARM_TAGGED,
        {
            **_ACCOUNT,
            "properties": {
                **_ACCOUNT["properties"],
                "autoStorage": {"storageAccountId": "id", "lastKeySync": "time", "authenticationMode": "=StorageKeys"},
            },
        },
    ),
    "synchronize a Batch account's storage keys": Recorded("general_arm_cmd", 204, _ARM),
    "delete a Batch account": Recorded("general_arm_cmd", 202, _ARM | {"location": "operation"}),
    "poll a deleted Batch account": Recorded("general_arm_cmd", 200, _ARM),
    "list VM sizes": Recorded(
        "general_arm_cmd",
        200,
        _ARM_JSON,
        {"value": [{"name": "text", "familyName": "text", "capabilities": [{"name": "text", "value": "text"}]}]},
    ),
    "get a resource group": Recorded("managed_identity_cmd", 200, _ARM_JSON, _GROUP),
    "put an identity": Recorded(
        "managed_identity_cmd", 201, _ARM_JSON | {"location": "id in small letters"}, _IDENTITY
    ),
    "get a storage account": Recorded(
        "managed_identity_cmd", 200, _ARM | {"content-type": "=application/json"}, _STORAGE
    ),
}
"""By what is asked for; `test_recorded_shapes.py` asks it."""


def differences(value: Any, shape: Any, place: str = "") -> set[str]:
    """Where a value has another shape: `+place` for a property too many, `-place` for one that lacks, else `place`."""
    if isinstance(shape, dict):
        return _of_mapping(value, shape, place) if isinstance(value, dict) else {place}
    if isinstance(shape, list):
        if not isinstance(value, list) or bool(value) != bool(shape):
            return {place}
        return {found for element in value for found in differences(element, shape[0], place)}
    if shape == "integer":
        return set() if type(value) is int else {place}
    if not isinstance(shape, str):
        return set() if type(value) is type(shape) and value == shape else {place}
    pattern = re.escape(shape[1:]) if shape.startswith("=") else KINDS[shape]
    return set() if isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL) else {place}


def _of_mapping(value: dict[str, Any], shape: dict[str, Any], place: str) -> set[str]:
    if "*" in shape:
        return {found for inner in value.values() for found in differences(inner, shape["*"], f"{place}.*")}
    known = {name.rstrip("?"): inner for name, inner in shape.items()}
    found = {f"+{place}.{name}" for name in value.keys() - known.keys()}
    found |= {f"-{place}.{name}" for name in shape.keys() - value.keys() if not name.endswith("?")}
    return found.union(
        *(differences(value[name], known[name], f"{place}.{name}") for name in value.keys() & known.keys())
    )
