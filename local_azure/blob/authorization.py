"""Lets requests pass by token, shared access signature or account key.

https://learn.microsoft.com/rest/api/storageservices/authorize-requests-to-azure-storage
"""

from local_azure.blob.call import Call
from local_azure.blob.permissions import Operation, authorize_by_token, challenge
from local_azure.blob.sas import authorize_by_sas
from local_azure.blob.shared_key import authorize_by_shared_key
from local_azure.errors import ApiError

_FIRST_VERSION_WITH_CHALLENGE = "2019-12-12"


def authorize(call: Call, operation: Operation) -> None:
    """Let a request pass that may do this.

    Raises:
        ApiError: 401, 403, or 409 for an anonymous one of an old version.
    """
    scheme = call.headers.get("authorization", "").partition(" ")[0].lower()
    if "sig" in call.query:
        authorize_by_sas(call, operation)
    elif scheme == "bearer":
        authorize_by_token(call, operation)
    elif scheme in ("sharedkey", "sharedkeylite"):
        authorize_by_shared_key(call, operation)
    else:
        raise _anonymous_refusal(call)


def _anonymous_refusal(call: Call) -> ApiError:
    if call.headers.get("x-ms-version", "") >= _FIRST_VERSION_WITH_CHALLENGE:
        return ApiError(
            401,
            "NoAuthenticationInformation",
            "Server failed to authenticate the request. "
            "Please refer to the information in the www-authenticate header.",
            challenge(call),
        )
    return ApiError(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
