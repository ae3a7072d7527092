"""Microsoft Graph, as far as `az role assignment create --assignee` and `az ad sp create-for-rbac` need it.

https://learn.microsoft.com/graph/api/overview

Differences from Graph: whoever has a token may read, the operator of the stand-in alone may write
(https://learn.microsoft.com/graph/permissions-overview), an application has one password, the last, and
the operator is also found by the name that `az account show` gives to whoever signed in as a managed identity.
"""

import re
import secrets
import uuid
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.identity.tokens import Principal
from local_azure.store import Document
from local_azure.wire import Handler, request_id, route

_EQUALITY = re.compile(r"(?P<property>\w+) eq '(?P<value>[^']*)'")
_STARTS = re.compile(r"startswith\((?P<property>\w+),\s*'(?P<value>[^']*)'\)", re.IGNORECASE)
_NAMES_ANY = re.compile(r"servicePrincipalNames/any\((?P<variable>\w+):\s*(?P=variable) eq '(?P<value>[^']*)'\)")
_PASSWORD_LIFE = timedelta(days=365)
_OPERATOR_IN_AZ = "systemAssignedIdentity"
"""`user.name` after `az login --identity`, which scripts hand on as `--assignee`; Azure finds nobody by it."""


class Graph:
    """Applications and the principals of the tenant."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._principals = cloud.store.table("principals")
        self._applications = cloud.store.table("applications")

    def routes(self) -> list[Route]:
        """The route table."""
        applications, principals = "/v1.0/applications", "/v1.0/servicePrincipals"
        return [
            self._route("GET", applications, self._list_applications),
            self._route("POST", applications, self._create_application),
            self._route("GET", f"{applications}/{{id}}", self._get_application),
            self._route("DELETE", f"{applications}/{{id}}", self._delete_application),
            self._route("POST", f"{applications}/{{id}}/addPassword", self._add_password),
            self._route("GET", principals, self._list_principals),
            self._route("POST", principals, self._create_principal),
            self._route("GET", f"{principals}/{{id}}", self._get_principal),
            self._route("DELETE", f"{principals}/{{id}}", self._delete_principal),
            self._route("GET", "/v1.0/users", self._list_users),
            self._route("GET", "/v1.0/users/{id}", self._get_principal),
            self._route("GET", "/v1.0/me", self._me),
            self._route("POST", "/v1.0/directoryObjects/getByIds", self._by_ids),
        ]

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def entered(request: Request) -> Response:
            caller = self._caller(request)
            if caller != self._cloud.operator and request.method != "GET" and handler != self._by_ids:
                raise ApiError(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
            return await handler(request)

        return route(method, path, entered)

    def _caller(self, request: Request) -> Principal:
        return self._cloud.tokens.principal(request, "graph", address=self._cloud.addresses.identity)

    async def _list_applications(self, request: Request) -> Response:
        return _page([found for found in self._applications.values() if _satisfies(found, request)])

    async def _create_application(self, request: Request) -> Response:
        body = await request.json()
        if not body.get("displayName"):
            raise ApiError(400, "Request_BadRequest", "Property displayName is missing.")
        made = {
            "id": str(uuid.uuid4()),
            "appId": str(uuid.uuid4()),
            "displayName": body["displayName"],
            "signInAudience": body.get("signInAudience", "AzureADMyOrg"),
            "passwordCredentials": [],
            "_secret": "",
        }
        self._applications[made["id"]] = made
        return JSONResponse(_public(made), 201)

    async def _get_application(self, request: Request) -> Response:
        return JSONResponse(_public(self._application(request)))

    async def _delete_application(self, request: Request) -> Response:
        gone = self._application(request)
        principal = self._cloud.tokens.find(gone["appId"])
        if principal:
            self._cloud.tokens.remove(principal.object_id)
        del self._applications[gone["id"]]
        return Response(status_code=204)

    async def _add_password(self, request: Request) -> Response:
        application = self._application(request)
        secret = secrets.token_urlsafe(30)
        now = self._cloud.clock.now()
        credential = {
            "keyId": str(uuid.uuid4()),
            "displayName": ((await request.json()).get("passwordCredential") or {}).get("displayName"),
            "startDateTime": now.isoformat(),
            "endDateTime": (now + _PASSWORD_LIFE).isoformat(),
            "hint": secret[:3],
        }
        changed = {**application, "passwordCredentials": [credential], "_secret": secret}
        self._applications[application["id"]] = changed
        principal = self._cloud.tokens.find(application["appId"])
        if principal:
            self._add(application, secret, principal.object_id)
        return JSONResponse({**credential, "secretText": secret})

    async def _create_principal(self, request: Request) -> Response:
        app_id = (await request.json()).get("appId")
        application = next((found for found in self._applications.values() if found["appId"] == app_id), None)
        if application is None:
            raise ApiError(
                400,
                "Request_BadRequest",
                f"The appId '{app_id}' of the service principal does not reference a valid application.",
            )
        if self._cloud.tokens.find(app_id):
            raise ApiError(
                409,
                "Request_MultipleObjectsWithSameKeyValue",
                f"The service principal of appId {app_id} is already in use.",
            )
        return JSONResponse(self._shown(self._add(application, application["_secret"])), 201)

    def _add(self, application: Document, secret: str, object_id: str = "") -> Principal:
        name, app_id = application["displayName"], application["appId"]
        return self._cloud.tokens.add(name, "ServicePrincipal", secret=secret, object_id=object_id, client_id=app_id)

    async def _list_principals(self, request: Request) -> Response:
        return _page([shown for shown in self._all() if not _is_user(shown) and _satisfies(shown, request)])

    async def _list_users(self, request: Request) -> Response:
        return _page([shown for shown in self._all() if _is_user(shown) and _satisfies(shown, request)])

    async def _get_principal(self, request: Request) -> Response:
        return JSONResponse(self._shown(self._principal(request)))

    async def _delete_principal(self, request: Request) -> Response:
        self._cloud.tokens.remove(self._principal(request).object_id)
        return Response(status_code=204)

    async def _me(self, request: Request) -> Response:
        caller = self._caller(request)
        if caller.kind != "User":
            raise ApiError(400, "BadRequest", "/me request is only valid with delegated authentication flow.")
        return JSONResponse(self._shown(caller))

    async def _by_ids(self, request: Request) -> Response:
        wanted = (await request.json()).get("ids") or []
        return _page([shown for shown in self._all() if shown["id"] in wanted])

    def _all(self) -> list[Document]:
        found = [self._cloud.tokens.find(object_id) for object_id in self._principals]
        return [self._shown(principal) for principal in found if principal]

    def _shown(self, principal: Principal) -> Document:
        if principal.kind == "User":
            kind: Document = {"@odata.type": "#microsoft.graph.user", "userPrincipalName": principal.name}
        else:
            kind = {
                "@odata.type": "#microsoft.graph.servicePrincipal",
                "appId": principal.client_id,
                "servicePrincipalType": "ManagedIdentity" if principal.kind == "ManagedIdentity" else "Application",
                "servicePrincipalNames": self._names(principal),
                "alternativeNames": [principal.name] if principal.name.startswith("/") else [],
            }
        return {"id": principal.object_id, "displayName": principal.name.rsplit("/", 1)[-1], **kind}

    def _names(self, principal: Principal) -> list[str]:
        return [principal.client_id, *([_OPERATOR_IN_AZ] if principal == self._cloud.operator else [])]

    def _principal(self, request: Request) -> Principal:
        principal = self._cloud.tokens.find(request.path_params["id"])
        if principal is None or principal.object_id != request.path_params["id"]:
            raise _not_found(request)
        return principal

    def _application(self, request: Request) -> Document:
        application = self._applications.get(request.path_params["id"])
        if application is None:
            raise _not_found(request)
        return application


def is_graph(request: Request) -> bool:
    """Whether a request is meant for Graph."""
    return request.url.path.lower().startswith("/v1.0/")


def render_graph(_: Request, error: ApiError) -> Response:
    """Graph's envelope for errors."""
    inner = {"request-id": request_id()}
    return JSONResponse(
        {"error": {"code": error.code, "message": error.message, "innerError": inner}}, error.status, error.headers
    )


def _not_found(request: Request) -> ApiError:
    return ApiError(
        404,
        "Request_ResourceNotFound",
        f"Resource '{request.path_params['id']}' does not exist or one of its queried "
        "reference-property objects are not present.",
    )


def _page(documents: list[Document]) -> Response:
    return JSONResponse({"value": [_public(document) for document in documents]})


def _public(document: Document) -> Document:
    return {key: value for key, value in document.items() if not key.startswith("_")}


def _is_user(shown: Document) -> bool:
    return bool(shown["@odata.type"] == "#microsoft.graph.user")


def _satisfies(document: Document, request: Request) -> bool:
    """Whether an object meets `$filter`, of which only the forms that the Azure CLI sends are known."""
    text = request.query_params.get("$filter")
    if not text:
        return True
    if matched := _NAMES_ANY.fullmatch(text):
        return matched["value"] in document.get("servicePrincipalNames", ())
    if matched := _EQUALITY.fullmatch(text):
        return bool(document.get(matched["property"]) == matched["value"])
    if matched := _STARTS.fullmatch(text):
        return str(document.get(matched["property"], "")).startswith(matched["value"])
    raise ApiError(400, "Request_UnsupportedQuery", f"local_azure does not know the filter {text}.")
