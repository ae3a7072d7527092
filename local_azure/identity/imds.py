"""Tokens: Entra's endpoint for operators, and the instance metadata service for operators and nodes.

IMDS follows https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token.
On loopback nobody can be told by his address, so every caller (each node, the operator) has a door of
his own: a secret first part of the path. It serves only the identities that were put behind it.

Difference from Azure: the door in the address, and no throttling.
"""

import secrets
import time
from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.identity.tokens import KNOWN_RESOURCES, Principal
from local_azure.wire import application, route


class Imds:
    """Instance metadata: which identities may be asked for at which door."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._doors: dict[str, list[str]] = {}

    def open(self, principals: Iterable[Principal]) -> str:
        """A base address (`AZURE_POD_IDENTITY_AUTHORITY_HOST`) at which these identities get tokens."""
        door = secrets.token_urlsafe(16)
        self._doors[door] = [principal.object_id for principal in principals]
        return f"{self._cloud.addresses.imds}/{door}"

    def close(self, address: str) -> None:
        """Shut a door."""
        self._doors.pop(address.rsplit("/", 1)[-1], None)

    def app(self) -> Starlette:
        """The HTTP application."""
        return application("identity", [route("GET", "/{door}/metadata/identity/oauth2/token", self._token)], _render)

    async def _token(self, request: Request) -> Response:
        if request.headers.get("metadata", "").lower() != "true":
            raise ApiError(400, "invalid_request", "Required metadata header not specified")
        resource = request.query_params.get("resource")
        if not resource:
            raise ApiError(400, "invalid_request", "Required query variable 'resource' is missing")
        if resource.rstrip("/") not in KNOWN_RESOURCES | {self._cloud.addresses.identity}:
            raise ApiError(
                400,
                "invalid_resource",
                f"AADSTS500011: The resource principal named {resource} was not found in the tenant named "
                f"{self._cloud.tenant_id}.",
            )
        principal = self._identity(request)
        life = self._cloud.tokens.life_seconds
        now = int(time.time())
        return JSONResponse(
            {
                "access_token": self._cloud.tokens.issue(principal, resource),
                "client_id": principal.client_id,
                "expires_in": str(life),
                "expires_on": str(now + life),
                "ext_expires_in": str(life),
                "not_before": str(now),
                "resource": resource,
                "token_type": "Bearer",
            }
        )

    def _identity(self, request: Request) -> Principal:
        behind = [self._cloud.tokens.find(object_id) for object_id in self._doors.get(request.path_params["door"], [])]
        wanted = next(
            (
                request.query_params[key]
                for key in ("client_id", "object_id", "principal_id", "msi_res_id", "mi_res_id")
                if request.query_params.get(key)
            ),
            None,
        )
        matching = [
            principal for principal in behind if principal and (wanted is None or wanted.lower() in _ids(principal))
        ]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise ApiError(
                400,
                "invalid_request",
                "Multiple user assigned identities exist, please specify the "
                "clientId / resourceId of the identity in the token request",
            )
        raise ApiError(400, "invalid_request", "Identity not found")


def _ids(principal: Principal) -> set[str]:
    return {principal.client_id.lower(), principal.object_id.lower(), principal.name.lower()}


def _render(request: Request, error: ApiError) -> Response:
    return JSONResponse(
        {"error": error.code, "error_description": error.message}, status_code=error.status, headers=error.headers
    )
