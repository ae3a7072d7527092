"""Who calls which account: Entra tokens, and shared keys where the account allows them.

https://learn.microsoft.com/rest/api/batchservice/authenticate-requests-to-the-azure-batch-service.
Job operations are data actions, pool and node operations are actions at the account's ARM id
(https://learn.microsoft.com/azure/role-based-access-control/permissions/compute#microsoftbatch).

Difference: an account that does not exist is 404 here; on Azure its host name does not resolve.
"""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl

from starlette.requests import Request

from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.store import Document
from local_azure.wire import SHARED_KEY_HEADERS

_MOST_SKEW = timedelta(minutes=15)
_NOT_AUTHENTICATED = (
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
    "including the signature.\nAuthenticationErrorDetail: "
)


def find_account(cloud: Cloud, name: str) -> Document:
    """The account's ARM document.

    Raises:
        ApiError: 404, there is no such account.
    """
    account = cloud.store.table("batchAccounts").get(name.lower())
    if account is None:
        raise ApiError(404, "ResourceNotFound", "The specified account does not exist.")
    return account


def authorize(cloud: Cloud, request: Request, account: Document, operation: str) -> None:
    """Let the caller pass if a role or the account's key allows it.

    Raises:
        ApiError: 401 or 403.
    """
    if request.headers.get("authorization", "").startswith("SharedKey "):
        _check_shared_key(cloud, request, account)
        return
    _require_mode(account, "AAD")
    principal = cloud.tokens.principal(request, "batch")
    is_data_action = operation.startswith("Microsoft.Batch/batchAccounts/jobs/")
    cloud.access.require(principal, operation, account["id"], data=is_data_action)


def _require_mode(account: Document, mode: str) -> None:
    allowed = account["properties"].get("allowedAuthenticationModes") or ()
    if mode not in allowed:
        detail = f"The specified type of authentication {mode} is not allowed."
        raise ApiError(401 if mode == "AAD" else 403, "AuthenticationFailed", _NOT_AUTHENTICATED + detail)


def _check_shared_key(cloud: Cloud, request: Request, account: Document) -> None:
    _require_mode(account, "SharedKey")
    _, _, credentials = request.headers["authorization"].partition(" ")
    name, _, signature = credentials.partition(":")
    _check_date(cloud, request)
    keys = cloud.store.table("batchKeys")[account["name"].lower()]
    text = _string_to_sign(request, account["name"]).encode()
    expected = [base64.b64encode(hmac.digest(base64.b64decode(key), text, hashlib.sha256)) for key in keys.values()]
    if name.lower() != account["name"].lower() or not any(
        hmac.compare_digest(signature.encode(), good) for good in expected
    ):
        raise ApiError(
            403, "AuthenticationFailed", _NOT_AUTHENTICATED + "The MAC signature in the HTTP request is not valid."
        )


def _check_date(cloud: Cloud, request: Request) -> None:
    """Let a request pass that is no older than 15 minutes, as the page above says."""
    text = request.headers.get("ocp-date") or request.headers.get("date", "")
    try:
        sent: datetime | None = parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        sent = None
    if sent is None or abs(cloud.clock.now() - sent) > _MOST_SKEW:
        raise ApiError(403, "AuthenticationFailed", _NOT_AUTHENTICATED + f"The date header is missing or old: '{text}'")


def _string_to_sign(request: Request, account: str) -> str:
    headers = request.headers
    lines = [request.method, *(headers.get(name, "") for name in SHARED_KEY_HEADERS)]
    if request.method not in ("GET", "HEAD") and not headers.get("content-length"):
        lines[1 + SHARED_KEY_HEADERS.index("content-length")] = "0"
    lines += [f"{name}:{value}" for name, value in sorted(headers.items()) if name.startswith("ocp-")]
    path = request.scope["raw_path"].decode()
    query = sorted(parse_qsl(request.url.query))
    resource = f"/{account}{path}" + "".join(f"\n{name}:{value}" for name, value in query)
    return "\n".join([*lines, resource])
