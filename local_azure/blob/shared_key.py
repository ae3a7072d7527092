"""Requests signed with an account key.

https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
"""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from local_azure.blob.account_keys import account_keys, signed
from local_azure.blob.answers import AuthenticationFailed
from local_azure.blob.call import Call
from local_azure.blob.permissions import Operation, permission_mismatch
from local_azure.wire import SHARED_KEY_HEADERS

_SIGNED_HEADERS_LITE = ("content-md5", "content-type", "date")
_MOST_SKEW = timedelta(minutes=15)


def authorize_by_shared_key(call: Call, operation: Operation) -> None:
    """Let a request pass that the account's key has signed; a key may do everything that takes no token.

    Raises:
        ApiError: 403.
    """
    keys = account_keys(call)
    scheme, _, credentials = call.headers["authorization"].partition(" ")
    account, _, signature = credentials.partition(":")
    _check_date(call)
    text = string_to_sign(call, lite=scheme.lower() == "sharedkeylite")
    if account.lower() != call.account_name or not signed(signature, text, keys):
        raise AuthenticationFailed(
            f"The MAC signature found in the HTTP request is not the same as any computed signature. "
            f"Server used following string to sign: '{text}'."
        )
    if operation.needs_token:
        raise permission_mismatch()


def string_to_sign(call: Call, *, lite: bool) -> str:
    """What the client signed."""
    headers = {**call.headers, "date": "" if "x-ms-date" in call.headers else call.headers.get("date", "")}
    if headers.get("content-length") == "0":
        headers["content-length"] = ""
    names = _SIGNED_HEADERS_LITE if lite else SHARED_KEY_HEADERS
    return "\n".join(
        [
            call.request.method,
            *(headers.get(name, "") for name in names),
            *(
                f"{name}:{headers[name].strip()}"
                for name in sorted(call.headers.keys(), key=_collation)
                if name.startswith("x-ms-")
            ),
            f"/{call.account_name}{call.raw_path}" + _signed_query(call, lite=lite),
        ]
    )


def _signed_query(call: Call, *, lite: bool) -> str:
    if lite:
        return f"?comp={call.query['comp']}" if "comp" in call.query else ""
    values: dict[str, list[str]] = {}
    for name, value in call.query.multi_items():
        values.setdefault(name.lower(), []).append(value)
    return "".join(f"\n{name}:{','.join(sorted(values[name]))}" for name in sorted(values))


def _collation(name: str) -> tuple[str, str]:
    """The service sorts header names as words, in which a hyphen counts last."""
    return name.replace("-", ""), name


def _check_date(call: Call) -> None:
    text = call.headers.get("x-ms-date", call.headers.get("date", ""))
    try:
        sent: datetime = parsedate_to_datetime(text).astimezone(UTC)
    except ValueError as error:
        raise AuthenticationFailed("The Date header in the request is incorrect.") from error
    if abs(call.cloud.clock.now() - sent) > _MOST_SKEW:
        raise AuthenticationFailed(f"Request date header too old: '{text}'")
