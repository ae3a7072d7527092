"""What an operation takes: role assignments for a principal, permissions for a SAS.

https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory
(its table "Permissions for calling data operations" is in the route table of this package).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from local_azure.blob.call import Call
from local_azure.errors import ApiError
from local_azure.identity.tokens import Principal

Handler = Callable[[Call], Awaitable[Response]]

_RESOURCE = "https://storage.azure.com"


@dataclass(frozen=True)
class Operation:
    """One entry of the route table: what to do, and what that takes."""

    handler: Handler
    action: str
    """RBAC operation below `Microsoft.Storage/storageAccounts/blobServices/`."""
    data: bool = False
    """Whether it is a data action."""
    sas: str = ""
    """SAS permissions, any of which suffices; empty where no SAS will do."""
    creates: bool = False
    """Whether `blobs/add/action`, or SAS permission `c`, suffices for a blob that is not there yet."""

    needs_token: bool = False
    """Whether account keys are not enough."""

    def sas_permissions(self, call: Call) -> str:
        """The SAS permissions that suffice for this call."""
        return self.sas + ("c" if self._is_new(call) else "")

    def allows(self, call: Call, principal: Principal) -> bool:
        """Whether the principal's role assignments allow this call."""
        actions = [self.action]
        if self._is_new(call):
            actions.append("containers/blobs/add/action")
        return any(
            call.cloud.access.allowed(
                principal, f"Microsoft.Storage/storageAccounts/blobServices/{action}", call.scope, data=self.data
            )
            for action in actions
        )

    def _is_new(self, call: Call) -> bool:
        return self.creates and call.blob_key not in call.state.blobs


def bearer(call: Call) -> Principal:
    """The principal of the request's token.

    Raises:
        ApiError: 401, with the challenge by which clients find the tenant.
    """
    try:
        return call.cloud.tokens.principal(call.request, "blob")
    except ApiError as error:
        raise ApiError(401, "InvalidAuthenticationInfo", error.message, challenge(call)) from error


def authorize_by_token(call: Call, operation: Operation) -> Principal:
    """Let a bearer token pass.

    Raises:
        ApiError: 401 or 403.
    """
    principal = bearer(call)
    if not operation.allows(call, principal):
        raise permission_mismatch()
    return principal


def permission_mismatch() -> ApiError:
    """403, for a caller who is known and may not."""
    return ApiError(
        403,
        "AuthorizationPermissionMismatch",
        "This request is not authorized to perform this operation using this permission.",
    )


def challenge(call: Call) -> dict[str, str]:
    """`WWW-Authenticate`, by which clients find the tenant and the audience."""
    tenant = f"https://login.microsoftonline.com/{call.cloud.tenant_id}/oauth2/authorize"
    return {"WWW-Authenticate": f"Bearer authorization_uri={tenant} resource_id={_RESOURCE}"}
