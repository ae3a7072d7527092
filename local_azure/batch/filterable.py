"""What `$filter` may name on each list, with which operators and which kind of value; all else is refused.

https://learn.microsoft.com/rest/api/batchservice/odata-filters-in-batch. Where that page calls a task's
`lastModified` `lastModifiedTime`, this takes the name that a task has.
"""

from typing import NamedTuple


class Filterable(NamedTuple):
    """How a property can be compared."""

    operators: frozenset[str]
    kind: str
    """`text`, `date`, `number` or `word`, as the parser calls what it is compared with."""


_EQUALITY = frozenset({"eq", "ne"})
_ORDER = _EQUALITY | {"lt", "le", "gt", "ge"}

_NAME = Filterable(_ORDER | {"startswith"}, "text")
_CHOICE = Filterable(_EQUALITY, "text")
_TIME = Filterable(_ORDER, "date")
_NUMBER = Filterable(_ORDER, "number")
_FLAG = Filterable(_EQUALITY, "word")
_FILES = {"name": Filterable(frozenset({"startswith"}), "text")}

FILTERABLE: dict[str, dict[str, Filterable]] = {
    "jobs": {
        "id": _NAME,
        "state": _CHOICE,
        "stateTransitionTime": _TIME,
        "creationTime": _TIME,
        "lastModified": _TIME,
        "executionInfo/startTime": _TIME,
        "executionInfo/endTime": _TIME,
        "executionInfo/poolId": _NAME,
    },
    "tasks": {
        "id": _NAME,
        "state": _CHOICE,
        "stateTransitionTime": _TIME,
        "creationTime": _TIME,
        "lastModified": _TIME,
        "executionInfo/startTime": _TIME,
        "executionInfo/endTime": _TIME,
        "executionInfo/exitCode": _NUMBER,
        "executionInfo/result": _CHOICE,
    },
    "pools": {
        "id": _NAME,
        "state": _CHOICE,
        "stateTransitionTime": _TIME,
        "allocationState": _CHOICE,
        "allocationStateTransitionTime": _TIME,
        "creationTime": _TIME,
        "enableAutoScale": _FLAG,
        "lastModified": _TIME,
        "vmSize": _CHOICE,
        "enableInterNodeCommunication": _FLAG,
    },
    "nodes": {
        "state": _CHOICE,
        "stateTransitionTime": _TIME,
        "lastBootTime": _TIME,
        "allocationTime": _TIME,
        "startTaskInfo/state": Filterable(frozenset({"eq"}), "text"),
        "startTaskInfo/result": _CHOICE,
        "startTaskInfo/exitCode": _NUMBER,
        "startTaskInfo/startTime": _TIME,
        "startTaskInfo/endTime": _TIME,
    },
    "poolnodecounts": {"poolId": Filterable(frozenset({"eq"}), "text")},
    "supportedimages": {"osType": _CHOICE, "verificationType": _CHOICE, "nodeAgentSKUId": _CHOICE},
    "files": _FILES,
}
"""By the name that the list has in `odata.metadata`."""
