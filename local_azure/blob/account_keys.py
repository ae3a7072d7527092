"""The keys that requests are signed with: the account's own, and user delegation keys."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

from local_azure.blob.call import Call
from local_azure.errors import ApiError

_SECRET_BYTES = 32


def account_keys(call: Call) -> list[bytes]:
    """Both keys of the account.

    Raises:
        ApiError: 403 where the account has keys turned off.
    """
    allowed = call.account.get("properties", {}).get("allowSharedKeyAccess")
    if not (call.cloud.options.shared_keys if allowed is None else allowed):
        raise ApiError(
            403,
            "KeyBasedAuthenticationNotPermitted",
            "Key based authentication is not permitted on this storage account.",
        )
    keys = call.state.account_keys.get(call.account_name, {})
    return [base64.b64decode(key) for key in keys.values()]


def delegation_key(call: Call, fields: Iterable[str]) -> bytes:
    """The key that Get User Delegation Key answers for these fields; nothing needs to be remembered of it."""
    if call.account_name not in call.state.secrets:
        secret = base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
        call.state.secrets[call.account_name] = {"secret": secret}
    secret = call.state.secrets[call.account_name]["secret"]
    return hmac.digest(base64.b64decode(secret), "\n".join(fields).encode(), hashlib.sha256)


def signed(signature: str, text: str, keys: Iterable[bytes]) -> bool:
    """Whether the signature of that text was made with one of the keys."""
    expected = (base64.b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode() for key in keys)
    return any(hmac.compare_digest(signature.encode(), candidate.encode()) for candidate in expected)
