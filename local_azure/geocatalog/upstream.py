"""`--stac-upstream`: another STAC API behind GeoCatalog's door.

The API is told its public address by X-Forwarded-Proto, -Host, -Port and -Prefix. What it links to under
another address is rewritten in the top-level `links` of its answers; items pass byte for byte.
"""

from urllib.parse import urlsplit

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local_azure.errors import ApiError
from local_azure.geocatalog.documents import with_links
from local_azure.store import Document

_PASSED_ON = ("accept", "content-type")
_PASSED_BACK = ("content-type", "retry-after", "etag", "last-modified")
_TIMEOUT_SECONDS = 300


class _Document(msgspec.Struct):
    type: str = ""
    links: list[Document] = []


class UpstreamProxy:
    """Passes calls below `/stac` on to the API at `upstream`."""

    def __init__(self, upstream: str, root: str) -> None:
        self._upstream = upstream.rstrip("/")
        self._root = root
        public = urlsplit(root)
        self._forwarded = {
            "x-forwarded-proto": public.scheme,
            "x-forwarded-host": public.hostname or "",
            "x-forwarded-port": str(public.port),
            "x-forwarded-prefix": public.path,
            "accept-encoding": "identity",
        }
        origin = f"{public.scheme}://{public.netloc}"
        self._foreign = (self._upstream, origin + urlsplit(self._upstream).path)
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the API does."""
        request = Request(scope, receive)
        path = request.scope["raw_path"].decode().removeprefix("/stac") or "/"
        address = f"{self._upstream}{path}" + (f"?{request.url.query}" if request.url.query else "")
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        try:
            answer = await self._client.request(
                request.method, address, content=await request.body(), headers={**headers, **self._forwarded}
            )
        except httpx.TransportError as error:
            raise ApiError(502, "BadGateway", f"The STAC API at {self._upstream} does not answer: {error}") from error
        kept = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
        await Response(self._rewritten(answer), answer.status_code, kept)(scope, receive, send)

    def _rewritten(self, answer: httpx.Response) -> bytes:
        try:
            document = msgspec.json.decode(answer.content, type=_Document)
        except msgspec.DecodeError:
            return answer.content  # nothing that could have links
        links = [self._public(link) for link in document.links]
        if document.type == "Feature" or links == document.links:
            return answer.content
        return with_links(answer.content, lambda _: links)

    def _public(self, link: Document) -> Document:
        """A link under the public address, whatever the API knows of it."""
        href = link.get("href", "")
        if href.startswith(self._root):
            return link
        for prefix in self._foreign:
            rest = href.removeprefix(prefix)
            if rest != href and rest[:1] in ("", "/", "?"):
                return {**link, "href": self._root + rest}
        return link
