"""What every service's HTTP application is made of."""

import errno
import logging
import re
import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from local_azure.errors import ApiError

logger = logging.getLogger("local_azure")

SHARED_KEY_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)
"""What a SharedKey signature of Batch and of blobs covers after the verb, in this order.

https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
"""

Handler = Callable[[Request], Awaitable[Response]]
ErrorRenderer = Callable[[Request, ApiError], Response]


def route(method: str, path: str, handler: Handler) -> Route:
    """A route that ignores the letter case of the path's fixed parts, as Azure does."""
    made = Route(path, handler, methods=[method], include_in_schema=False)
    made.path_regex = re.compile(made.path_regex.pattern, re.IGNORECASE)
    if method != "HEAD" and made.methods:
        made.methods.discard("HEAD")
    return made


def application(service: str, routes: Sequence[BaseRoute], render: ErrorRenderer) -> Starlette:
    """A service: its routes, and its envelope for errors.

    What is not imitated, a route or a part of a body, is answered with a logged 501, never with a soft success.
    """

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)  # noqa: S101  # registered for this class alone
        if error.status == 501:
            logger.warning("%s: %s %s: %s", service, request.method, request.url.path, error.message)
        return render(request, error)

    async def unrouted(request: Request, error: Exception) -> Response:
        logger.warning("%s: no route for %s %s", service, request.method, request.url.path)
        return render(
            request,
            ApiError(501, "NotImplemented", f"local_azure has no {request.method} {request.url.path} in {service}."),
        )

    async def broken(request: Request, error: Exception) -> Response:
        logger.error("%s: %s %s failed", service, request.method, request.url.path, exc_info=error)
        if _is_full(error):  # no status of Azure's, and none that its SDKs ask again on
            return render(request, ApiError(507, "InsufficientStorage", "The disk of local_azure's state is full."))
        return render(request, ApiError(500, "InternalServerError", "local_azure failed; its log says how."))

    handlers: dict[Any, Any] = {ApiError: refused, HTTPException: unrouted, Exception: broken}
    app = Starlette(routes=list(routes), exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def _is_full(error: Exception) -> bool:
    """Whether a write failed for want of room: https://www.sqlite.org/rescode.html#full."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def request_id() -> str:
    """A fresh id for the headers `request-id`, `x-ms-request-id` and their like."""
    return str(uuid.uuid4())
