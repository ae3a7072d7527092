"""Refusals of Entra's token endpoint, of Microsoft Graph and of the instance metadata service."""

import uuid

from refusals import Refusal
from world import ARM, GRAPH, Answer, World, send

_CODES = "https://learn.microsoft.com/entra/identity-platform/reference-error-codes"
_IMDS = (
    "https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling"
)
_GRAPH = "https://learn.microsoft.com/graph/errors"
_GRAPH_RIGHTS = "https://learn.microsoft.com/graph/resolve-auth-errors"


def _token(world: World, tenant: str = "", **form: str) -> Answer:
    """Ask for a token with a client secret; an empty field is left out."""
    somebody = world.somebody()
    fields = {
        "grant_type": "client_credentials",
        "client_id": somebody.client_id,
        "client_secret": somebody.secret,
        "scope": f"{ARM}/.default",
        **form,
    }
    tenant = tenant or world.settings["LOCAL_AZURE_TENANT_ID"]
    url = f"{world.settings['LOCAL_AZURE_LOGIN_URL']}/{tenant}/oauth2/v2.0/token"
    return send("POST", url, data={name: value for name, value in fields.items() if value})


def _imds(world: World, metadata: str = "true", **query: str) -> Answer:
    url = f"{world.settings['AZURE_POD_IDENTITY_AUTHORITY_HOST']}/metadata/identity/oauth2/token"
    asked = {"api-version": "2018-02-01", "resource": ARM, **query}
    return send(
        "GET",
        url,
        params={name: value for name, value in asked.items() if value},
        headers={"Metadata": metadata} if metadata else {},
    )


def _graph(world: World, method: str, path: str, token: str, **options: object) -> Answer:
    url = f"{world.settings['LOCAL_AZURE_LOGIN_URL']}/v1.0/{path}"
    return send(method, url, headers={"Authorization": f"Bearer {token}"}, **options)


ROWS = [
    Refusal("a wrong client secret", lambda w: _token(w, client_secret="no"), 401, "AADSTS7000215", _CODES),  # noqa: S106  # wrong on purpose
    Refusal("no client secret", lambda w: _token(w, client_secret=""), 401, "AADSTS7000218", _CODES),
    Refusal(
        "an application that the tenant does not know",
        lambda w: _token(w, client_id=str(uuid.uuid4())),
        400,
        "AADSTS700016",
        _CODES,
    ),
    Refusal("a tenant that does not exist", lambda w: _token(w, str(uuid.uuid4())), 400, "AADSTS90002", _CODES),
    Refusal(
        "a resource that the tenant does not know",
        lambda w: _token(w, scope="https://elsewhere.example/.default"),
        400,
        "AADSTS500011",
        _CODES,
    ),
    Refusal("a request for a token without a scope", lambda w: _token(w, scope=""), 400, "AADSTS90014", _CODES),
    Refusal("a grant type that is not supported", lambda w: _token(w, grant_type="guess"), 400, "AADSTS70003", _CODES),
    Refusal("the metadata service without its header", lambda w: _imds(w, ""), 400, "invalid_request", _IMDS),
    Refusal(
        "the metadata service with a header that says anything but true",
        lambda w: _imds(w, "yes"),
        400,
        "invalid_request",
        _IMDS,
    ),
    Refusal("the metadata service without a resource", lambda w: _imds(w, resource=""), 400, "invalid_request", _IMDS),
    Refusal(
        "the metadata service for a resource that the tenant does not know",
        lambda w: _imds(w, resource="https://elsewhere.example"),
        400,
        "invalid_resource",
        _IMDS,
    ),
    Refusal(
        "the token of an identity that is not on the machine",
        lambda w: _imds(w, client_id=w.somebody().client_id),
        400,
        "invalid_request",
        _IMDS,
    ),
    Refusal(
        "Graph with a token for Azure Resource Manager",
        lambda w: _graph(w, "GET", "applications", w.operator(ARM)),
        401,
        "AuthenticationFailed",
        _GRAPH,
    ),
    Refusal(
        "an application that registers another without a right to",
        lambda w: _graph(w, "POST", "applications", w.somebody().token(GRAPH), json={"displayName": "more"}),
        403,
        "Authorization_RequestDenied",
        _GRAPH_RIGHTS,
    ),
    Refusal(
        "a service principal that does not exist",
        lambda w: _graph(w, "GET", f"servicePrincipals/{uuid.uuid4()}", w.operator(GRAPH)),
        404,
        "Request_ResourceNotFound",
        _GRAPH,
    ),
]
"""Every row: what is refused, the request, status, code, page."""
