"""Shared access signatures, from version 2018-11-09 on.

https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas, …/create-service-sas,
…/create-account-sas

Differences from Azure: stored access policies (`si`) are refused, and so is `sr=d`, since no account has a
hierarchical namespace.
"""

import ipaddress
import re
from urllib.parse import unquote

from local_azure.blob.account_keys import account_keys, delegation_key, signed
from local_azure.blob.answers import AuthenticationFailed
from local_azure.blob.call import Call
from local_azure.blob.permissions import Operation, bearer, permission_mismatch
from local_azure.clock import http_date, parse_time
from local_azure.errors import ApiError

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_OLDEST_VERSION = "2018-11-09"
_KEY_FIELDS = ("skoid", "sktid", "skt", "ske", "sks", "skv")
_RESPONSE_FIELDS = ("rscc", "rscd", "rsce", "rscl", "rsct")
_CONTAINER_OPERATIONS = (("container", "GET", "list"), ("container", "POST", "batch"))
# All that a SAS for a container opens besides its blobs: https://learn.microsoft.com/rest/api/storageservices/create-service-sas
_RESOURCE_TYPES = {"service": "s", "container": "c", "blob": "o", "account": "sco"}


def authorize_by_sas(call: Call, operation: Operation) -> None:
    """Let a request pass whose query carries a SAS for it.

    Raises:
        ApiError: 403.
    """
    version = call.query.get("sv", "")
    if not _VERSION.fullmatch(version) or version < _OLDEST_VERSION:
        raise AuthenticationFailed("sv is mandatory. Cannot be empty, or older than this service takes.")
    if any({"\n", "\r"} & set(value) for value in call.query.values()):
        # The fields of a string to sign are told apart by line breaks alone.
        raise AuthenticationFailed("A value of the SAS has a line break.")
    _check_time(call, "st", "se")
    if "skoid" in call.query:
        _user_delegation(call, operation)
        _check_level(call)
    elif "ss" in call.query:
        _account(call)
    else:
        _service(call)
        _check_level(call)
    _check_circumstances(call)
    if not set(call.query.get("sp", "")) & set(operation.sas_permissions(call)):
        raise permission_mismatch()


def _check_level(call: Call) -> None:
    """Let pass what a SAS for a container or blob can open at all."""
    if call.operation[0] != "blob" and call.operation not in _CONTAINER_OPERATIONS:
        raise permission_mismatch()


def _user_delegation(call: Call, operation: Operation) -> None:
    """What the SAS allows is cut to what its principal's roles allow."""
    version = call.query["sv"]
    fields = [*_fields(call, "sp", "st", "se"), _resource(call), *_fields(call, *_KEY_FIELDS)]
    if version >= "2020-02-10":
        fields += _fields(call, "saoid", "suoid", "scid")
    if version >= "2025-07-05":
        fields += _fields(call, "skdutid", "sduoid")
    fields += _fields(call, "sip", "spr", "sv", "sr", "snapshot")
    if version >= "2020-12-06":
        fields += _fields(call, "ses")
    if version >= "2026-04-06":
        fields += [_signed_headers(call), _signed_parameters(call)]
    key = delegation_key(call, [*_fields(call, *_KEY_FIELDS), *_fields(call, "skdutid")])
    _check_signature(call, [*fields, *_fields(call, *_RESPONSE_FIELDS)], [key])
    _check_time(call, "skt", "ske")
    principal = call.cloud.tokens.find(call.query["skoid"])
    if principal is None:
        raise AuthenticationFailed("The principal of the user delegation key no longer exists.")
    if "sduoid" in call.query and bearer(call).object_id != call.query["sduoid"]:
        raise AuthenticationFailed("The SAS is for another user than the token.")
    if not operation.allows(call, principal):
        raise permission_mismatch()


def _service(call: Call) -> None:
    fields = [
        *_fields(call, "sp", "st", "se"),
        _resource(call),
        *_fields(call, "si", "sip", "spr", "sv", "sr", "snapshot"),
    ]
    if call.query["sv"] >= "2020-12-06":
        fields += _fields(call, "ses")
    _check_signature(call, [*fields, *_fields(call, *_RESPONSE_FIELDS)], account_keys(call))


def _account(call: Call) -> None:
    fields = [call.account_name, *_fields(call, "sp", "ss", "srt", "st", "se", "sip", "spr", "sv")]
    if call.query["sv"] >= "2020-12-06":
        fields += _fields(call, "ses")
    _check_signature(call, [*fields, ""], account_keys(call))
    if "b" not in call.query["ss"]:
        raise ApiError(
            403,
            "AuthorizationServiceMismatch",
            "This request is not authorized to perform this operation using this service.",
        )
    if not set(_RESOURCE_TYPES[call.operation[0]]) & set(call.query.get("srt", "")):
        raise ApiError(
            403,
            "AuthorizationResourceTypeMismatch",
            "This request is not authorized to perform this operation using this resource type.",
        )


def _fields(call: Call, *names: str) -> list[str]:
    return [call.query.get(name, "") for name in names]


def _resource(call: Call) -> str:
    """What was signed: the container or the blob."""
    container = f"/blob/{call.account_name}/{call.container_name}"
    match call.query.get("sr"):
        case "c":
            return container
        case "b":
            return f"{container}/{call.blob_name}"
        case other:
            raise AuthenticationFailed(f"sr={other} is not valid for this resource.")


def _signed_headers(call: Call) -> str:
    names = [unquote(name) for name in call.query.get("srh", "").split(",") if name]
    return "".join(f"{name}:{call.headers.get(name, '')}\n" for name in names)


def _signed_parameters(call: Call) -> str:
    names = [unquote(name) for name in call.query.get("srq", "").split(",") if name]
    return "".join(f"\n{name}:{call.query.get(name, '')}" for name in names)


def _check_signature(call: Call, fields: list[str], keys: list[bytes]) -> None:
    text = "\n".join(fields)
    if not signed(call.query["sig"], text, keys):
        raise AuthenticationFailed(f"Signature did not match. String to sign used was {text}")


def _check_time(call: Call, start_field: str, expiry_field: str) -> None:
    now = call.cloud.clock.now()
    try:
        start = parse_time(call.query.get(start_field) or now.isoformat())
        expiry = parse_time(call.query.get(expiry_field, ""))
    except ValueError as error:
        raise AuthenticationFailed(f"{start_field} or {expiry_field} is not a valid time.") from error
    if start <= now < expiry:
        return
    times = [f"[{http_date(moment)}]" for moment in (start, expiry, now)]
    if expiry_field == "ske":
        detail = "Signature not valid in the specified key time frame: Key start {} - Key expiry {} - Current {}"
    elif call.query.get(start_field):
        detail = "Signature not valid in the specified time frame: Start {} - Expiry {} - Current {}"
    else:
        detail = "Signed expiry time {1} must be after signed start time {0}"
    raise AuthenticationFailed(detail.format(*times))


def _check_circumstances(call: Call) -> None:
    """Let the protocol and the caller's address pass."""
    if call.request.url.scheme not in call.query.get("spr", "https,http").split(","):
        raise ApiError(
            403,
            "AuthorizationProtocolMismatch",
            "This request is not authorized to perform this operation using this protocol.",
        )
    first, _, last = call.query.get("sip", "").partition("-")
    client = call.request.client
    try:
        outside = (
            first
            and client
            and not (
                ipaddress.ip_address(first) <= ipaddress.ip_address(client.host) <= ipaddress.ip_address(last or first)  # type: ignore[operator]  # TypeError below for IPv4 with IPv6
            )
        )
    except (ValueError, TypeError):
        outside = True
    if outside:
        raise ApiError(
            403,
            "AuthorizationSourceIPMismatch",
            "This request is not authorized to perform this operation using this source IP.",
        )
