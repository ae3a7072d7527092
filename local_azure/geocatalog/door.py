"""What stands before a GeoCatalog's STAC API: api-version, token, role, the limit on calls and the time that one takes.

https://learn.microsoft.com/azure/planetary-computer/ documents 50 STAC calls a second per
subscription. Difference: without `--geocatalog-rate` there is no limit. A call without api-version passes: the Bash
script of https://learn.microsoft.com/azure/planetary-computer/azure-batch sends none.
"""

import asyncio
import math
import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.geocatalog.envelope import bad_request

API_VERSIONS = ("2026-04-15", "2025-04-30-preview")


class Door:
    """Lets a call pass to the application, or refuses it."""

    def __init__(self, app: ASGIApp, cloud: Cloud, resource_id: str) -> None:
        self._app = app
        self._cloud = cloud
        self._resource_id = resource_id
        rate = cloud.options.geocatalog_rate
        self._bucket = TokenBucket(rate) if rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the call, then pass it on.

        Raises:
            ApiError: 400 for the api-version or a body that is not there, 401 for the token, 403 for the role, 429
                beyond the rate.
        """
        request = Request(scope)
        _check_api_version(request)
        principal = self._cloud.tokens.principal(request, "geocatalog")
        self._cloud.access.require(principal, _operation(request), self._resource_id, data=True)
        if self._bucket:
            self._bucket.take()
        _check_body(request)
        await asyncio.sleep(self._cloud.options.geocatalog_delay_ms / 1000)
        app = self._to_landing_page(request) if scope["path"] == "/stac" else self._app
        await app(scope, receive, send)

    def _to_landing_page(self, request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return Response(status_code=307, headers={"Location": f"{self._cloud.addresses.geocatalog}/stac/{query}"})


class TokenBucket:
    """So many calls a second, and as many at once after a rest."""

    def __init__(self, calls_per_second: int) -> None:
        self._rate = calls_per_second
        self._left = float(calls_per_second)
        self._filled = time.monotonic()

    def take(self) -> None:
        """Count one call.

        Raises:
            ApiError: 429 with Retry-After.
        """
        now = time.monotonic()
        self._left = min(self._rate, self._left + (now - self._filled) * self._rate)
        self._filled = now
        if self._left < 1:
            wait = math.ceil((1 - self._left) / self._rate)
            sentence = f"The limit of {self._rate} calls per second is exceeded. Try again in {wait} seconds."
            raise ApiError(429, "TooManyRequests", sentence, {"Retry-After": str(wait)})
        self._left -= 1


def _check_api_version(request: Request) -> None:
    version = request.query_params.get("api-version")
    if version and version not in API_VERSIONS:
        known = ", ".join(API_VERSIONS)
        raise ApiError(400, "InvalidApiVersionParameter", f"The api-version '{version}' is not one of: {known}.")


def _check_body(request: Request) -> None:
    """Hold a GET to its Content-Type: the service parses a body that is said to be JSON, recorded with none there."""
    said = request.headers.get("content-type", "").startswith("application/json")
    if request.method == "GET" and said and request.headers.get("content-length", "0") == "0":
        raise bad_request("Expecting Value: Line 1 Column 1 (Char 0)")


def _operation(request: Request) -> str:
    searches = request.method == "POST" and request.scope["path"] == "/stac/search"
    reads = searches or request.method in ("GET", "HEAD", "OPTIONS")
    return f"Microsoft.Orbital/geoCatalogs/stac/{'read' if reads else 'write'}"
