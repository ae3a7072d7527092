"""Refusals of shared access signatures and account keys."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ResourceTypes,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)
from refusals import Refusal
from storage_accounts import remove_role
from world import BLOB_READER, Answer, World, refused_by, send

_DELEGATED = "https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas"
_ACCOUNT = "https://learn.microsoft.com/rest/api/storageservices/create-account-sas"
_KEY = "https://learn.microsoft.com/rest/api/storageservices/get-user-delegation-key"
_SHARED = "https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key"
_NO_KEYS = "https://learn.microsoft.com/azure/storage/common/shared-key-authorization-prevent"


def _minutes(count: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=count)


def _blob_sas(container: ContainerClient, world: World, **more: Any) -> str:
    """A SAS for the blob `x`, to read for ten minutes unless told otherwise."""
    with world.service() as service:
        key = service.get_user_delegation_key(_minutes(-5), _minutes(30))
    options = {"permission": "r", "expiry": _minutes(10), **more}
    return generate_blob_sas("delegated", container.container_name, "x", user_delegation_key=key, **options)


def _using(
    change: Callable[[str], str] = str, method: str = "GET", target: str = "/x", **options: Any
) -> Callable[[World], Answer]:
    """A request in a fresh container with a delegated SAS for the blob `x`, made with options and then changed."""

    def call(world: World) -> Answer:
        with world.container() as container:
            sas = change(_blob_sas(container, world, **{name: _now(value) for name, value in options.items()}))
            join = "&" if "?" in target else "?"
            return send(method, f"{container.url}{target}{join}{sas}")

    return call


def _now(value: Any) -> Any:
    """Moments are told in minutes from now."""
    return _minutes(value) if isinstance(value, int) else value


def _tampered(sas: str) -> str:
    return sas.replace("sp=r", "sp=rw")


def _prolonged(sas: str) -> str:
    before, _, after = sas.partition("se=20")
    return f"{before}se=21{after}"


def _other_blob(world: World) -> Answer:
    with world.container() as container:
        container.upload_blob("y", b"other")
        return send("GET", f"{container.url}/y?{_blob_sas(container, world)}")


def _other_container(world: World) -> Answer:
    with world.container() as one, world.container() as other:
        return send("GET", f"{other.url}/x?{_blob_sas(one, world)}")


def _container(method: str) -> Callable[[World], Answer]:
    """A request for the container itself by a SAS that opens what is in it."""

    def call(world: World) -> Answer:
        with world.container() as container, world.service() as service:
            key = service.get_user_delegation_key(_minutes(-5), _minutes(30))
            sas = generate_container_sas(
                "delegated", container.container_name, user_delegation_key=key, permission="rwdl", expiry=_minutes(5)
            )
            return send(method, f"{container.url}?restype=container&{sas}")

    return call


def _long_key(world: World) -> Answer:
    with world.service() as service:
        return refused_by(lambda: service.get_user_delegation_key(_minutes(0), _minutes(8 * 24 * 60)))


def _backward_key(world: World) -> Answer:
    with world.service() as service:
        return refused_by(lambda: service.get_user_delegation_key(_minutes(30), _minutes(10)))


def _orphaned(world: World) -> Answer:
    """A SAS of somebody whose role was taken away."""
    somebody = world.somebody()
    scope = world.storage_id("delegated")
    name = "11111111-2222-3333-4444-555555555555"
    world.assign(BLOB_READER, scope, somebody.object_id, name=name)
    with world.container() as container, world.service(by=somebody) as service:
        key = service.get_user_delegation_key(_minutes(-5), _minutes(30))
        sas = generate_blob_sas(
            "delegated",
            container.container_name,
            "x",
            user_delegation_key=key,
            permission="r",
            expiry=_minutes(5),
        )
        remove_role(world.settings, f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}")
        return send("GET", f"{container.url}/x?{sas}")


def _by_key(account: str, key: str) -> Callable[[World], Answer]:
    def call(world: World) -> Answer:
        credential = {"account_name": account, "account_key": base64.b64encode(key.encode()).decode()}
        with BlobServiceClient(world.blobs[account], credential, retry_total=0) as service:
            try:
                list(service.list_containers())
            except HttpResponseError as error:
                return Answer(error.status_code or 0, str(error.response.headers["x-ms-error-code"]))  # type: ignore[union-attr]  # an answer is there
        return Answer(200, "")

    return call


def _service_sas(world: World) -> Answer:
    """A SAS by a key of an account that takes none."""
    with world.container() as container:
        sas = generate_blob_sas(
            "delegated", container.container_name, "x", account_key="YW55", permission="r", expiry=_minutes(5)
        )
        return send("GET", f"{container.url}/x?{sas}")


def _account_sas(query: str = "", services: str = "", **types: bool) -> Callable[[World], Answer]:
    """A read by an account SAS of those resource types; of the container where a query says so."""

    def call(world: World) -> Answer:
        with world.container("keyed") as container:
            sas = generate_account_sas(
                "keyed",
                world.storage_key(),
                ResourceTypes(**types),
                AccountSasPermissions(read=True),
                _minutes(5),
                **({"services": services} if services else {}),
            )
            return send("GET", f"{container.url}{query or '/x?'}&{sas}")

    return call


def _deleting(world: World) -> Answer:
    with world.container("keyed") as container:
        sas = generate_account_sas(
            "keyed", world.storage_key(), ResourceTypes(object=True), AccountSasPermissions(read=True), _minutes(5)
        )
        return send("DELETE", f"{container.url}/x?{sas}")


_FAILED, _MISMATCH = "AuthenticationFailed", "AuthorizationPermissionMismatch"

ROWS = [
    Refusal("a SAS with another signature", _using(lambda s: s[:-8] + "AAAAA%3D"), 403, _FAILED, _DELEGATED),
    Refusal("a SAS whose permissions were changed", _using(_tampered), 403, _FAILED, _DELEGATED),
    Refusal("a SAS that was prolonged", _using(_prolonged), 403, _FAILED, _DELEGATED),
    Refusal("a SAS that has expired", _using(start=-4, expiry=-1), 403, _FAILED, _DELEGATED),
    Refusal("a SAS that is not valid yet", _using(start=5), 403, _FAILED, _DELEGATED),
    Refusal("a SAS on another blob", _other_blob, 403, _FAILED, _DELEGATED),
    Refusal("a SAS on another container", _other_container, 403, _FAILED, _DELEGATED),
    Refusal("a SAS to read that deletes", _using(method="DELETE"), 403, _MISMATCH, _DELEGATED),
    Refusal("a SAS to create that replaces", _using(method="PUT", permission="c"), 403, _MISMATCH, _DELEGATED),
    Refusal("a SAS for a blob that lists", _using(target="?restype=container&comp=list"), 403, _FAILED, _DELEGATED),
    Refusal("a SAS for a container that deletes it", _container("DELETE"), 403, _MISMATCH, _DELEGATED),
    Refusal("a SAS for a container that shows its properties", _container("GET"), 403, _MISMATCH, _DELEGATED),
    Refusal("a SAS from elsewhere", _using(ip="10.0.0.1"), 403, "AuthorizationSourceIPMismatch", _DELEGATED),
    Refusal("a SAS over another protocol", _using(protocol="http"), 403, "AuthorizationProtocolMismatch", _DELEGATED),
    Refusal("a SAS of somebody who lost his role", _orphaned, 403, _MISMATCH, _DELEGATED),
    Refusal("a delegation key for more than seven days", _long_key, 400, "InvalidXmlNodeValue", _KEY),
    Refusal("a delegation key that ends before it begins", _backward_key, 400, "InvalidXmlNodeValue", _KEY),
    Refusal("a wrong account key", _by_key("keyed", "wrong"), 403, _FAILED, _SHARED),
    Refusal(
        "a key of an account that takes none",
        _by_key("delegated", "any"),
        403,
        "KeyBasedAuthenticationNotPermitted",
        _NO_KEYS,
    ),
    Refusal(
        "a SAS by a key of an account that takes none",
        _service_sas,
        403,
        "KeyBasedAuthenticationNotPermitted",
        _NO_KEYS,
    ),
    Refusal("an account SAS to read that deletes", _deleting, 403, _MISMATCH, _ACCOUNT),
    Refusal(
        "an account SAS for objects that lists a container",
        _account_sas("?restype=container&comp=list", object=True),
        403,
        "AuthorizationResourceTypeMismatch",
        _ACCOUNT,
    ),
    Refusal(
        "an account SAS for another service",
        _account_sas(services="q", object=True),
        403,
        "AuthorizationServiceMismatch",
        _ACCOUNT,
    ),
]
"""Every row: what is refused, the request, status, code, page."""
