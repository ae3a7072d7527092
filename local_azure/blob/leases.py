"""Leases of containers and blobs.

https://learn.microsoft.com/rest/api/storageservices/lease-blob, …/lease-container
"""

import math
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta

from starlette.responses import Response

from local_azure.blob.call import BlobState, Call, in_future, version_headers
from local_azure.blob.conditions import check_write
from local_azure.clock import ticks
from local_azure.errors import ApiError
from local_azure.store import Document

_INFINITE = -1
_LONGEST_BREAK_SECONDS = 60
_ACTIVE = ("leased", "breaking")


def lease_state(document: Document, state: BlobState) -> str:
    """`available`, `leased`, `expired`, `breaking` or `broken`."""
    lease = document.get("lease")
    if lease is None:
        return "available"
    if lease["breaksAt"] is not None:
        return "breaking" if in_future(lease["breaksAt"], state) > timedelta() else "broken"
    if lease["expiresAt"] is None or in_future(lease["expiresAt"], state) > timedelta():
        return "leased"
    return "expired"


def lease_properties(document: Document, state: BlobState) -> dict[str, str]:
    """State, status and duration, as listings name them."""
    current = lease_state(document, state)
    properties = {"LeaseStatus": "locked" if current in _ACTIVE else "unlocked", "LeaseState": current}
    if current == "leased":
        properties["LeaseDuration"] = "infinite" if document["lease"]["seconds"] == _INFINITE else "fixed"
    return properties


def lease_headers(document: Document, state: BlobState) -> dict[str, str]:
    """State, status and duration, as headers name them."""
    return {f"x-ms-lease-{name[5:].lower()}": value for name, value in lease_properties(document, state).items()}


def check_lease(headers: Mapping[str, str], document: Document, state: BlobState, *, writing: bool, kind: str) -> None:
    """Let a request pass that holds the lease, or needs none.

    Args:
        headers: of the request.
        document: the container or blob.
        state: knows the time.
        writing: a write needs the id of an active lease; a read only has to give the right one, if any.
        kind: `Blob` or `Container`, for the error's code.

    Raises:
        ApiError: 412.
    """
    given = headers.get("x-ms-lease-id", "").lower()
    active = lease_state(document, state) in _ACTIVE
    if active and not given and writing:
        raise ApiError(
            412,
            "LeaseIdMissing",
            f"There is currently a lease on the {kind.lower()} and no lease ID was specified in the request.",
        )
    if active and given and given != document["lease"]["id"]:
        raise ApiError(
            412,
            f"LeaseIdMismatchWith{kind}Operation",
            f"The lease ID specified did not match the lease ID for the {kind.lower()}.",
        )
    if given and not active:
        lost = document.get("lease") is not None
        raise ApiError(
            412,
            "LeaseLost" if lost else f"LeaseNotPresentWith{kind}Operation",
            "A lease ID was specified, but the lease has expired."
            if lost
            else f"There is currently no lease on the {kind.lower()}.",
        )


def settle_lease(document: Document, state: BlobState) -> None:
    """Before a change: a lease that has run out cannot be renewed after it."""
    if lease_state(document, state) not in _ACTIVE:
        document.pop("lease", None)


async def lease_container(call: Call) -> Response:
    """Lease Container."""
    response = _lease(call, call.container)
    call.state.containers[call.container_key] = call.container
    return response


async def lease_blob(call: Call) -> Response:
    """Lease Blob."""
    response = _lease(call, call.blob)
    call.state.blobs[call.blob_key] = call.blob
    return response


def _lease(call: Call, document: Document) -> Response:
    check_write(call.headers, document)
    action = call.headers.get("x-ms-lease-action", "").lower()
    if action not in _ACTIONS:
        raise ApiError(
            400, "InvalidHeaderValue", "The value for the header x-ms-lease-action is not in the correct format."
        )
    status, headers = _ACTIONS[action](call, document, lease_state(document, call.state))
    return Response(status_code=status, headers={**version_headers(document), **headers})


def _acquire(call: Call, document: Document, current: str) -> tuple[int, dict[str, str]]:
    lease_id = call.headers.get("x-ms-proposed-lease-id", str(uuid.uuid4())).lower()
    if current == "breaking":
        raise _conflict("LeaseIsBreakingAndCannotBeAcquired", "a lease is being broken")
    if current == "leased" and document["lease"]["id"] != lease_id:
        raise _conflict("LeaseAlreadyPresent", "There is already a lease present.")
    seconds = _whole(call, "x-ms-lease-duration")
    if seconds is None or (seconds != _INFINITE and not 15 <= seconds <= 60):
        raise ApiError(400, "InvalidHeaderValue", "A lease lasts 15 to 60 seconds, or -1 for ever.")
    document["lease"] = {"id": lease_id, "seconds": seconds, "breaksAt": None}
    _extend(call, document)
    return 201, {"x-ms-lease-id": lease_id}


def _renew(call: Call, document: Document, current: str) -> tuple[int, dict[str, str]]:
    _must_hold(call, document)
    if current in ("breaking", "broken"):
        raise _conflict(
            "LeaseIsBrokenAndCannotBeRenewed", "The lease has been broken explicitly and cannot be renewed."
        )
    _extend(call, document)
    return 200, {"x-ms-lease-id": document["lease"]["id"]}


def _change(call: Call, document: Document, current: str) -> tuple[int, dict[str, str]]:
    proposed = call.headers.get("x-ms-proposed-lease-id", "").lower()
    if not proposed:
        raise ApiError(400, "MissingRequiredHeader", "The header x-ms-proposed-lease-id is required.")
    if not document.get("lease") or document["lease"]["id"] != proposed:
        _must_hold(call, document)
    if current == "breaking":
        raise _conflict("LeaseIsBreakingAndCannotBeChanged", "The lease is being broken and cannot be changed.")
    if current != "leased":
        raise _conflict("LeaseNotPresentWithLeaseOperation", "There is currently no lease.")
    document["lease"]["id"] = proposed
    return 200, {"x-ms-lease-id": proposed}


def _release(call: Call, document: Document, current: str) -> tuple[int, dict[str, str]]:
    _must_hold(call, document)
    del document["lease"]
    return 200, {}


def _break(call: Call, document: Document, current: str) -> tuple[int, dict[str, str]]:
    if current == "available":
        raise _conflict("LeaseNotPresentWithLeaseOperation", "There is currently no lease.")
    lease = document["lease"]
    ends = lease["breaksAt"] or lease["expiresAt"]
    left = max(0.0, in_future(ends, call.state).total_seconds()) if ends else 0.0
    period = _whole(call, "x-ms-lease-break-period")
    if period is not None and not 0 <= period <= _LONGEST_BREAK_SECONDS:
        raise ApiError(400, "InvalidHeaderValue", "A break period lasts 0 to 60 seconds.")
    if period is not None and current in _ACTIVE:
        left = min(left, period) if ends else period
    lease["breaksAt"] = ticks(call.cloud.clock.now() + timedelta(seconds=left))
    return 202, {"x-ms-lease-time": str(math.ceil(left))}


_ACTIONS: dict[str, Callable[[Call, Document, str], tuple[int, dict[str, str]]]] = {
    "acquire": _acquire,
    "renew": _renew,
    "change": _change,
    "release": _release,
    "break": _break,
}


def _extend(call: Call, document: Document) -> None:
    seconds = document["lease"]["seconds"]
    ends = None if seconds == _INFINITE else ticks(call.cloud.clock.now() + timedelta(seconds=seconds))
    document["lease"]["expiresAt"] = ends


def _must_hold(call: Call, document: Document) -> None:
    if not document.get("lease") or call.headers.get("x-ms-lease-id", "").lower() != document["lease"]["id"]:
        raise _conflict(
            "LeaseIdMismatchWithLeaseOperation", "The lease ID specified did not match the lease ID of the resource."
        )


def _whole(call: Call, header: str) -> int | None:
    text = call.headers.get(header)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise ApiError(
            400, "InvalidHeaderValue", f"The value for the header {header} is not in the correct format."
        ) from error


def _conflict(code: str, message: str) -> ApiError:
    return ApiError(409, code, message)
