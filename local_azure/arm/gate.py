"""What every ARM request passes before a handler sees it, and how ARM words a refusal.

https://learn.microsoft.com/azure/azure-resource-manager/management/control-plane-and-data-plane

The operation that role-based access control asks for follows from method and path:
`GET …/Microsoft.Batch/batchAccounts/a` is `Microsoft.Batch/batchAccounts/read` on the account,
`POST …/a/listKeys` is `Microsoft.Batch/batchAccounts/listKeys/action` on it.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_azure.arm.providers import Providers
from local_azure.arm.versions import check_version
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.identity.tokens import Principal
from local_azure.store import Document
from local_azure.wire import request_id, route

_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete", "POST": "action"}
_NAMESPACED = re.compile(r"(?P<parent>.*)/providers/(?P<namespace>[^/]+)/(?P<rest>.+)", re.IGNORECASE)
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class ArmError(ApiError):
    """An error with the `target` and `details` that some resource providers add."""

    def __init__(
        self, status: int, code: str, message: str, *, target: str = "", details: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, message)
        self.target = target
        self.details = dict(details or {})


@dataclass(frozen=True)
class Call:
    """A request that was let in."""

    request: Request
    caller: Principal
    body: Document
    """The JSON object of a PUT, PATCH or POST; empty where there was none."""

    def __getitem__(self, name: str) -> str:
        """A parameter of the path."""
        return str(self.request.path_params[name])

    @property
    def version(self) -> str:
        """The api-version asked for."""
        return self.request.query_params["api-version"]


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True)
class Target:
    """What a path addresses."""

    namespace: str
    types: str
    """Resource types joined by slashes, such as `batchAccounts/pools`."""
    scope: str
    """ARM id of the resource; of the parent for a collection or an action."""
    operation: str


def target(method: str, path: str) -> Target:
    """The resource and the operation that a request names."""
    path = "/" + path.strip("/")
    matched = _NAMESPACED.fullmatch(path)
    parent, namespace, rest = (
        matched.group("parent", "namespace", "rest") if matched else ("", "Microsoft.Resources", path.strip("/"))
    )
    parts = rest.split("/")
    types = "/".join(parts[::2])
    named = len(parts) % 2 == 0
    scope = path if named else path.rsplit("/", 1)[0] if len(parts) > 1 else parent
    return Target(namespace, types, scope, f"{namespace}/{types}/{_VERBS[method]}")


class Gate:
    """Lets requests in: api-version, token, subscription, permission, registration of the provider."""

    def __init__(self, cloud: Cloud, providers: Providers) -> None:
        self._cloud = cloud
        self._providers = providers

    def route(self, method: str, path: str, handler: Handler, *, open_to_all: bool = False) -> Route:
        """A route whose handler runs for callers with the permission.

        With `open_to_all` a token is enough: for what everybody may see, lists that show only what the
        caller may read, and the progress of operations, whose addresses cannot be guessed.
        """

        async def entered(request: Request) -> Response:
            return _stamped(await handler(await self._admit(request, open_to_all)))

        return route(method, path, entered)

    async def _admit(self, request: Request, open_to_all: bool) -> Call:
        wanted = target(request.method, request.url.path)
        # ARM itself registers providers, though the operation bears the provider's name.
        namespace = "Microsoft.Resources" if wanted.types in ("register", "unregister") else wanted.namespace
        check_version(request.query_params.get("api-version"), namespace, wanted.types)
        caller = self._cloud.tokens.principal(request, "arm")
        self._check_subscription(request.url.path)
        if not open_to_all:
            self._cloud.access.require(caller, wanted.operation, wanted.scope)
        if request.method == "PUT":
            self._providers.require_registered(wanted.namespace)
        return Call(request, caller, await _body(request))

    def _check_subscription(self, path: str) -> None:
        parts = path.strip("/").split("/")
        if parts[0].lower() != "subscriptions" or len(parts) < 2:
            return
        if not _GUID.fullmatch(parts[1]):
            raise ApiError(
                400,
                "InvalidSubscriptionId",
                f"The provided subscription identifier '{parts[1]}' is malformed or invalid.",
            )
        if parts[1].lower() != self._cloud.subscription_id:
            raise ApiError(404, "SubscriptionNotFound", f"The subscription '{parts[1]}' could not be found.")


async def _body(request: Request) -> Document:
    text = await request.body()
    if not text:
        return {}
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ApiError(
            400, "InvalidRequestContent", f"The request content was invalid and could not be deserialized: '{error}'."
        ) from error
    if not isinstance(body, dict):
        raise ApiError(400, "InvalidRequestContent", "The request content is not a JSON object.")
    return body


def render(_: Request, error: ApiError) -> Response:
    """ARM's envelope for errors."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if isinstance(error, ArmError):
        body["target"] = error.target
        body["details"] = [{"code": code, "message": message} for code, message in error.details.items()]
    return _stamped(JSONResponse({"error": body}, error.status, error.headers))


def listing(documents: Sequence[Document]) -> Response:
    """One page with everything."""
    return JSONResponse({"value": list(documents)})


def _stamped(response: Response) -> Response:
    if response.headers.get("content-type") == "application/json":
        response.headers["content-type"] = "application/json; charset=utf-8"
    response.headers["x-ms-request-id"] = request_id()
    response.headers["x-ms-correlation-request-id"] = request_id()
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["cache-control"] = "no-cache"
    response.headers["pragma"] = "no-cache"
    response.headers["expires"] = "-1"
    return response
