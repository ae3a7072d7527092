"""Refusals of blob storage to callers with a token, and of conditions and leases."""

import uuid
from collections.abc import Callable
from typing import Any

from azure.core import MatchConditions
from azure.storage.blob import BlobLeaseClient, ContainerClient
from refusals import Refusal
from world import ARM, BLOB, BLOB_READER, READER, Answer, World, refused_by, send

_CODES = "https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes"
_COMMON = "https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes"
_ENTRA = "https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory"
_SCOPES = "https://learn.microsoft.com/azure/storage/blobs/assign-azure-role-data-access"
_CONDITIONS = (
    "https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations"
)
_LEASES = "https://learn.microsoft.com/rest/api/storageservices/lease-blob"
_DELETE = "https://learn.microsoft.com/rest/api/storageservices/delete-container"
_OTHER_LEASE = str(uuid.uuid4())


def _in_container(act: Callable[[ContainerClient], Any]) -> Callable[[World], Answer]:
    """What the SDK is refused in a fresh container with the blob `x`."""

    def call(world: World) -> Answer:
        with world.container() as container:
            return refused_by(lambda: act(container))

    return call


def _raw(token: Callable[[World], str], version: str = "2023-11-03") -> Callable[[World], Answer]:
    """A raw read of a blob, with a token or none."""

    def call(world: World) -> Answer:
        bearer = token(world)
        headers = {"x-ms-version": version, **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        with world.container() as container:
            return send("GET", f"{container.url}/x", headers=headers)

    return call


def _as(
    role: str, scope: Callable[[World, str], str], act: Callable[[ContainerClient], Any]
) -> Callable[[World], Answer]:
    """What somebody with a role at a scope, told by the container's name, is refused in it."""

    def call(world: World) -> Answer:
        with world.container() as container:
            name = container.container_name
            somebody = world.somebody(role, scope(world, name)) if role else world.somebody()
            with world.service(by=somebody) as service:
                return refused_by(lambda: act(service.get_container_client(name)))

    return call


def _read(container: ContainerClient) -> None:
    container.download_blob("x").readall()


def _write(container: ContainerClient) -> None:
    container.upload_blob("y", b"1")


def _account(world: World, _: str) -> str:
    return world.storage_id("delegated")


def _container(world: World, name: str) -> str:
    return world.storage_id("delegated", name)


def _sibling(world: World, _: str) -> str:
    return world.storage_id("delegated", "sibling")


def _other_account(world: World, _: str) -> str:
    return world.storage_id("keyed")


def _delegation_key(world: World) -> Answer:
    """A role on a container gives no right to the account's delegation keys."""
    somebody = world.somebody(BLOB_READER, world.storage_id("delegated", "any"))
    headers = {"Authorization": f"Bearer {somebody.token(BLOB)}", "x-ms-version": "2023-11-03"}
    url = f"{world.blobs['delegated']}/?restype=service&comp=userdelegationkey"
    return send("POST", url, data="<KeyInfo/>", headers=headers)


def _leased(act: Callable[[ContainerClient], Any]) -> Callable[[World], Answer]:
    """What is refused while somebody else holds the lease of the blob `x`."""

    def leasing(container: ContainerClient) -> None:
        container.get_blob_client("x").acquire_lease(15)
        act(container)

    return _in_container(leasing)


def _changed(container: ContainerClient) -> None:
    blob = container.get_blob_client("x")
    old = blob.get_blob_properties().etag
    blob.upload_blob(b"new", overwrite=True)
    blob.upload_blob(b"newer", overwrite=True, etag=old, match_condition=MatchConditions.IfNotModified)


def _unchanged(container: ContainerClient) -> None:
    blob = container.get_blob_client("x")
    blob.download_blob(etag=blob.get_blob_properties().etag, match_condition=MatchConditions.IfModified).readall()


def _vanished(container: ContainerClient) -> None:
    blob = container.get_blob_client("y")
    blob.upload_blob(b"1", overwrite=True, etag='"0x1"', match_condition=MatchConditions.IfNotModified)


def _again(container: ContainerClient) -> None:
    container.delete_container()
    container.create_container()


def _renew_anothers(container: ContainerClient) -> None:
    BlobLeaseClient(container.get_blob_client("x"), _OTHER_LEASE).renew()


def _nowhere(world: World) -> Answer:
    with world.service() as service:
        return refused_by(lambda: service.get_blob_client("nowhere", "x").download_blob())


def _huge(world: World) -> Answer:
    headers = {"Authorization": f"Bearer {world.operator(BLOB)}", "x-ms-version": "2023-11-03"}
    with world.container() as container:
        body = b" " * (8 * 2**20 + 1)
        return send("PUT", f"{container.url}/x?comp=blocklist", data=body, headers=headers)


ROWS = [
    Refusal("a blob without a token", _raw(lambda w: ""), 401, "NoAuthenticationInformation", _ENTRA),
    Refusal(
        "a blob without a token, of an old version",
        _raw(lambda w: "", "2018-11-09"),
        409,
        "PublicAccessNotPermitted",
        "https://learn.microsoft.com/azure/storage/blobs/anonymous-read-access-prevent",
    ),
    Refusal("a blob with a token for ARM", _raw(lambda w: w.operator(ARM)), 401, "InvalidAuthenticationInfo", _ENTRA),
    Refusal(
        "a blob with a token that has expired",
        _raw(lambda w: w.forged(BLOB, exp=1)),
        401,
        "InvalidAuthenticationInfo",
        _ENTRA,
    ),
    Refusal(
        "a blob for somebody without a role", _as("", _account, _read), 403, "AuthorizationPermissionMismatch", _ENTRA
    ),
    Refusal(
        "a blob for a Reader of the account, who has no data action",
        _as(READER, _account, _read),
        403,
        "AuthorizationPermissionMismatch",
        _SCOPES,
    ),
    Refusal(
        "a blob that a Blob Data Reader writes",
        _as(BLOB_READER, _container, _write),
        403,
        "AuthorizationPermissionMismatch",
        _SCOPES,
    ),
    Refusal(
        "a blob for a role on another container",
        _as(BLOB_READER, _sibling, _read),
        403,
        "AuthorizationPermissionMismatch",
        _SCOPES,
    ),
    Refusal(
        "a blob for a role on another account",
        _as(BLOB_READER, _other_account, _read),
        403,
        "AuthorizationPermissionMismatch",
        _SCOPES,
    ),
    Refusal(
        "a delegation key for a role on a container",
        _delegation_key,
        403,
        "AuthorizationPermissionMismatch",
        "https://learn.microsoft.com/rest/api/storageservices/get-user-delegation-key",
    ),
    Refusal("a blob that does not exist", _in_container(lambda c: c.download_blob("no")), 404, "BlobNotFound", _CODES),
    Refusal(
        "a blob of a container that does not exist",
        _nowhere,
        404,
        "ContainerNotFound",
        _CODES,
    ),
    Refusal(
        "a blob that is there already",
        _in_container(lambda c: c.upload_blob("x", b"1")),
        409,
        "BlobAlreadyExists",
        _CODES,
    ),
    Refusal(
        "a container that is there already",
        _in_container(lambda c: c.create_container()),
        409,
        "ContainerAlreadyExists",
        _CODES,
    ),
    Refusal("a container that was deleted a moment ago", _in_container(_again), 409, "ContainerBeingDeleted", _DELETE),
    Refusal("a write against another version", _in_container(_changed), 412, "ConditionNotMet", _CONDITIONS),
    Refusal("a read of the version that one has", _in_container(_unchanged), 304, "ConditionNotMet", _CONDITIONS),
    Refusal("a replacement of what is not there", _in_container(_vanished), 412, "ConditionNotMet", _CONDITIONS),
    Refusal(
        "a lease that somebody holds",
        _leased(lambda c: c.get_blob_client("x").acquire_lease(15)),
        409,
        "LeaseAlreadyPresent",
        _LEASES,
    ),
    Refusal(
        "a lease that is renewed without being held",
        _leased(_renew_anothers),
        409,
        "LeaseIdMismatchWithLeaseOperation",
        _LEASES,
    ),
    Refusal(
        "a write without the lease",
        _leased(lambda c: c.upload_blob("x", b"1", overwrite=True)),
        412,
        "LeaseIdMissing",
        _CODES,
    ),
    Refusal(
        "a write with another lease",
        _leased(lambda c: c.upload_blob("x", b"1", overwrite=True, lease=_OTHER_LEASE)),
        412,
        "LeaseIdMismatchWithBlobOperation",
        _CODES,
    ),
    Refusal(
        "a write with a lease where there is none",
        _in_container(lambda c: c.upload_blob("x", b"1", overwrite=True, lease=_OTHER_LEASE)),
        412,
        "LeaseNotPresentWithBlobOperation",
        _CODES,
    ),
    Refusal(
        "a list of blocks that were never sent",
        _in_container(lambda c: c.get_blob_client("y").commit_block_list(["no"])),
        400,
        "InvalidBlockList",
        _CODES,
    ),
    Refusal("a document beyond what the service reads", _huge, 413, "RequestBodyTooLarge", _COMMON),
]
"""Every row: what is refused, the request, status, code, page."""
