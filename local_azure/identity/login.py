"""Microsoft Entra ID: tokens for applications with a client secret, and what clients ask before.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow

Microsoft Graph (`graph.py`) is served at the same address.

Difference from Entra: no sign-in of users, no client certificates.
"""

import base64
import hmac
import time
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.identity.graph import Graph, is_graph, render_graph
from local_azure.identity.tokens import KNOWN_RESOURCES, Principal
from local_azure.store import Document
from local_azure.wire import application, request_id, route

_OAUTH_ERRORS = {
    "AADSTS7000215": (401, "invalid_client"),
    "AADSTS7000218": (401, "invalid_client"),
    "AADSTS700016": (400, "unauthorized_client"),
    "AADSTS70003": (400, "unsupported_grant_type"),
    "AADSTS90002": (400, "invalid_request"),
    "AADSTS90014": (400, "invalid_request"),
    "AADSTS500011": (400, "invalid_resource"),
}
"""HTTP status and OAuth error of Entra's codes.

https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""


def app(cloud: Cloud) -> Starlette:
    """The HTTP application."""
    entra = Entra(cloud)
    routes = [
        route("GET", "/common/discovery/instance", entra.instance),
        route("GET", "/{tenant}/v2.0/.well-known/openid-configuration", entra.configuration),
        route("GET", "/{tenant}/.well-known/openid-configuration", entra.configuration),
        route("GET", "/{tenant}/discovery/v2.0/keys", entra.keys),
        route("POST", "/{tenant}/oauth2/v2.0/token", entra.token),
        route("POST", "/{tenant}/oauth2/token", entra.token),
        *Graph(cloud).routes(),
    ]
    return application("identity", routes, _render)


class Entra:
    """The endpoints of one tenant; `common` and `organizations` are accepted where nobody signs in."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def instance(self, request: Request) -> Response:
        """Instance discovery: this host is an authority of its own."""
        root = self._cloud.addresses.identity
        host = root.removeprefix("https://")
        return JSONResponse(
            {
                "tenant_discovery_endpoint": f"{root}/{self._cloud.tenant_id}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
            }
        )

    async def configuration(self, request: Request) -> Response:
        """The OpenID configuration of the tenant."""
        root = f"{self._cloud.addresses.identity}/{self._tenant(request)}"
        return JSONResponse(
            {
                "issuer": f"{root}/v2.0",
                "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{root}/oauth2/v2.0/devicecode",
                "token_endpoint": f"{root}/oauth2/v2.0/token",
                "jwks_uri": f"{root}/discovery/v2.0/keys",
                "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "tenant_region_scope": "NA",
            }
        )

    async def keys(self, request: Request) -> Response:
        """The public key that tokens are signed for, as a JSON Web Key Set."""
        key = load_pem_private_key((self._cloud.options.state / "token-key.pem").read_bytes(), password=None)
        assert isinstance(key, rsa.RSAPrivateKey)  # noqa: S101  # the only kind that the token authority writes
        numbers = key.public_key().public_numbers()
        key_set = {"kty": "RSA", "use": "sig", "kid": "local_azure", "n": _base64(numbers.n), "e": _base64(numbers.e)}
        return JSONResponse({"keys": [key_set]})

    async def token(self, request: Request) -> Response:
        """A token for an application: version 2.0 names it by `scope`, version 1.0 by `resource`."""
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        if self._tenant(request) != self._cloud.tenant_id:
            raise _refusal("AADSTS90002", f"Tenant '{request.path_params['tenant']}' not found.")
        if form.get("grant_type") != "client_credentials":
            raise _refusal("AADSTS70003", f"The app requested an unsupported grant type '{form.get('grant_type')}'.")
        principal = self._application(*_credentials(request, form))
        audience = form.get("resource") or form.get("scope", "").removesuffix("/.default")
        self._check_audience(audience)
        now, life = int(time.time()), self._cloud.tokens.life_seconds
        answer: Document = {
            "token_type": "Bearer",
            "expires_in": life,
            "ext_expires_in": life,
            "access_token": self._cloud.tokens.issue(principal, audience),
        }
        if "resource" in form:
            answer |= {
                "expires_in": str(life),
                "ext_expires_in": str(life),
                "expires_on": str(now + life),
                "not_before": str(now),
                "resource": audience,
            }
        return JSONResponse(answer)

    def _tenant(self, request: Request) -> str:
        tenant = str(request.path_params["tenant"]).lower()
        if tenant in (self._cloud.tenant_id, "common", "organizations"):
            return tenant
        raise _refusal(
            "AADSTS90002", f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."
        )

    def _application(self, client_id: str, secret: str) -> Principal:
        principal = self._cloud.tokens.find(client_id) if client_id else None
        if principal is None or principal.client_id != client_id:
            raise _refusal(
                "AADSTS700016",
                f"Application with identifier '{client_id}' was not found in the directory '{self._cloud.tenant_id}'.",
            )
        if not secret:
            raise _refusal(
                "AADSTS7000218",
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            )
        known = self._cloud.tokens.secret_of(principal)
        if not known or not hmac.compare_digest(known.encode(), secret.encode()):
            raise _refusal(
                "AADSTS7000215",
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
                f"value, not the client secret ID, for a secret added to app '{client_id}'.",
            )
        return principal

    def _check_audience(self, audience: str) -> None:
        if not audience:
            raise _refusal("AADSTS90014", "The required field 'scope' is missing from the request.")
        if audience.rstrip("/") not in KNOWN_RESOURCES | {self._cloud.addresses.identity}:
            raise _refusal(
                "AADSTS500011",
                f"The resource principal named {audience} was not found in the tenant named {self._cloud.tenant_id}.",
            )


def _credentials(request: Request, form: dict[str, str]) -> tuple[str, str]:
    scheme, _, basic = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client_id, _, secret = base64.b64decode(basic.encode("latin-1")).decode().partition(":")
        except ValueError:
            return "", ""
        return client_id, secret
    return form.get("client_id", ""), form.get("client_secret", "")


def _refusal(code: str, sentence: str) -> ApiError:
    return ApiError(_OAUTH_ERRORS[code][0], code, sentence)


def _render(request: Request, error: ApiError) -> Response:
    if is_graph(request):
        return render_graph(request, error)
    _, oauth_error = _OAUTH_ERRORS.get(error.code, (error.status, error.code))
    trace = request_id()
    body: Document = {
        "error": oauth_error,
        "error_description": f"{error.code}: {error.message} Trace ID: {trace}",
        "trace_id": trace,
        "correlation_id": request.headers.get("client-request-id", trace),
    }
    if error.code in _OAUTH_ERRORS:
        body["error_codes"] = [int(error.code.removeprefix("AADSTS"))]
    return JSONResponse(body, error.status, error.headers)


def _base64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8)).rstrip(b"=").decode()
