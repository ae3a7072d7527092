"""Operations on containers.

https://learn.microsoft.com/rest/api/storageservices/operations-on-containers
"""

import re

from starlette.responses import Response

from local_azure.blob.call import Call, metadata_headers, version_headers
from local_azure.blob.conditions import check_read, check_write
from local_azure.blob.leases import check_lease, lease_headers
from local_azure.clock import parse_time, ticks
from local_azure.errors import ApiError

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_NAME_LENGTHS = range(3, 64)
# https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
_SECONDS_UNTIL_NAME_IS_FREE = 30
# https://learn.microsoft.com/rest/api/storageservices/delete-container: "at least 30 seconds"


async def create_container(call: Call) -> Response:
    """Create Container."""
    _check_name(call.container_name)
    if call.container_key in call.state.containers:
        raise ApiError(409, "ContainerAlreadyExists", "The specified container already exists.")
    if call.headers.get("x-ms-blob-public-access"):
        raise ApiError(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
    _refuse_name_in_use(call)
    document = {"name": call.container_name, "metadata": call.metadata(), "publicAccess": None}
    call.state.stamp(document)
    call.state.containers[call.container_key] = document
    return Response(status_code=201, headers=version_headers(document))


def _check_name(name: str) -> None:
    if len(name) not in _NAME_LENGTHS:
        sentence = "The specified resource name length is not within the permissible limits."
        raise ApiError(400, "OutOfRangeInput", sentence)
    if not _NAME.match(name):
        raise ApiError(400, "InvalidResourceName", "The specified resource name contains invalid characters.")


def _refuse_name_in_use(call: Call) -> None:
    tombstone = call.state.deleted_containers.get(call.container_key)
    if tombstone is None:
        return
    if not call.cloud.clock.elapsed(parse_time(tombstone["deleted"]), _SECONDS_UNTIL_NAME_IS_FREE):
        raise ApiError(409, "ContainerBeingDeleted", "The specified container is being deleted. Try operation later.")
    del call.state.deleted_containers[call.container_key]


async def get_container_properties(call: Call) -> Response:
    """Get Container Properties, Get Container Metadata."""
    document = call.container
    check_lease(call.headers, document, call.state, writing=False, kind="Container")
    check_read(call.headers, document)
    return Response(
        headers={
            **version_headers(document),
            **metadata_headers(document["metadata"]),
            **lease_headers(document, call.state),
            "x-ms-has-immutability-policy": "false",
            "x-ms-has-legal-hold": "false",
            "x-ms-default-encryption-scope": "$account-encryption-key",
            "x-ms-deny-encryption-scope-override": "false",
        }
    )


async def set_container_metadata(call: Call) -> Response:
    """Set Container Metadata."""
    document = call.container
    check_lease(call.headers, document, call.state, writing=False, kind="Container")
    check_write(call.headers, document)
    document["metadata"] = call.metadata()
    call.state.stamp(document)
    call.state.containers[call.container_key] = document
    return Response(headers=version_headers(document))


async def delete_container(call: Call) -> Response:
    """Delete Container, at once, with its blobs; its name stays taken for a while."""
    check_lease(call.headers, call.container, call.state, writing=True, kind="Container")
    check_write(call.headers, call.container)
    call.state.forget(call.account_name, call.container_name)
    call.state.deleted_containers[call.container_key] = {"deleted": ticks(call.cloud.clock.now())}
    return Response(status_code=202)
