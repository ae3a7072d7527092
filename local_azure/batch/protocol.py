"""How the Batch service speaks: a call with its account, answers, their headers, conditions, and errors.

https://learn.microsoft.com/rest/api/batchservice/common-parameters-and-headers (and the pages beside it).
As recorded answers show, the ETag header has no quotes; conditions are understood with and without.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from local_azure.batch.odata import Listing
from local_azure.batch.refusals import DetailedError, invalid_body
from local_azure.batch.states import modified
from local_azure.clock import http_date, ticks
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.store import Document
from local_azure.wire import request_id

LARGEST_BODY = 2**20
_JSON = "application/json;odata=minimalmetadata"
_INTEGERS = {
    "code",
    "end",
    "maxParallelTasks",
    "maxTaskRetryCount",
    "priority",
    "requiredSlots",
    "start",
    "targetDedicatedNodes",
    "targetLowPriorityNodes",
    "taskSlotsPerNode",
}
_VERSION = re.compile(r"20\d\d-\d\d-\d\d(\.\d+\.\d+)?")
_CONDITION = "The condition specified using HTTP conditional header(s) is not met."


@dataclass
class Call:
    """A request that was let in, and the account that it is for."""

    cloud: Cloud
    account: Document
    request: Request

    @property
    def name(self) -> str:
        """The account's name."""
        return str(self.account["name"])

    @property
    def path(self) -> dict[str, str]:
        """Variables of the path."""
        return self.request.path_params

    @property
    def place(self) -> str:
        """The address that was called."""
        return str(self.request.url.replace(query=""))

    def url(self, *parts: str) -> str:
        """The address of something in this account."""
        tail = "".join("/" + quote(part, safe="") for part in parts)
        return f"{self.cloud.addresses.batch}/{self.name}{tail}"

    async def body(self) -> Any:
        """The request's JSON.

        Raises:
            ApiError: it is larger than a megabyte, or no JSON.
        """
        raw = await self.request.body()
        if len(raw) > LARGEST_BODY:
            raise ApiError(
                413, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit."
            )
        try:
            return json.loads(raw, object_hook=_numbers)
        except ValueError as error:
            raise invalid_body("The body is no JSON.") from error

    def one(self, kind: str, document: Document, *, tagged: Document | None = None) -> Response:
        """200 with one document, reduced to what `$select` names; `tagged` lends its ETag."""
        metadata = {"odata.metadata": f"{self.url()}/$metadata#{kind}/@Element"}
        tagged = document if tagged is None else tagged
        return self._answer(200, metadata | Listing(self.request, kind).select(document), _tag(tagged))

    def many(
        self, kind: str, documents: Iterable[Document], answered: Callable[[Document], Document] = lambda one: one
    ) -> Response:
        """200 with one page of what `$filter` lets through.

        Args:
            kind: the list's name in `odata.metadata`.
            documents: all of them, with what can be filtered by.
            answered: makes of one what is answered; costs nothing for those that are not on the page.
        """
        listing = Listing(self.request, kind)
        page, skip_token = listing.page(documents, answered)
        body: Document = {"odata.metadata": f"{self.url()}/$metadata#{kind}", "value": page}
        if skip_token:
            query = self.request.url.remove_query_params("$skiptoken").include_query_params(
                **{"$skiptoken": skip_token}
            )
            body["odata.nextLink"] = f"{self.url()}{self.request.url.path.removeprefix('/' + self.path['account'])}"
            body["odata.nextLink"] += f"?{query.query}"
        return self._answer(200, body)

    def result(self, kind: str, body: Document, headers: dict[str, str] | None = None) -> Response:
        """200 with an answer that is no stored document."""
        return self._answer(200, {"odata.metadata": f"{self.url()}/$metadata#{kind}"} | body, headers)

    def done(self, status: int, document: Document | None = None, *, location: str = "") -> Response:
        """An answer without a body: the changed document's ETag, the created one's location."""
        headers = _tag(document) if document else {}
        if status == 201:
            headers["Location"] = location
        if document:
            headers["DataServiceId"] = location or self.place
        return self._answer(status, None, headers)

    def check_conditions(self, document: Document) -> None:
        """Hold the request to its `If-…` headers.

        Raises:
            ApiError: 412, or 304 for a read, when one is not met.
        """
        headers, tag = self.request.headers, document["eTag"]
        changed = modified(document).replace(microsecond=0)
        met = (
            _matches(headers.get("if-match", "*"), tag)
            and not _matches(headers.get("if-none-match", ""), tag)
            and ("if-unmodified-since" not in headers or changed <= _date(headers["if-unmodified-since"]))
            and ("if-modified-since" not in headers or changed > _date(headers["if-modified-since"]))
        )
        if not met:
            reads = self.request.method in ("GET", "HEAD")
            raise ApiError(304 if reads else 412, "ConditionNotMet", _CONDITION)

    def _answer(self, status: int, body: Document | None, headers: dict[str, str] | None = None) -> Response:
        return answer(self.request, status, body, headers)


def require_version(request: Request) -> None:
    """Let a request pass that names a version of the service; which one makes no difference.

    Raises:
        ApiError: 400, it names none.
    """
    version = request.query_params.get("api-version")
    if version is None:
        raise DetailedError(
            400,
            "MissingRequiredQueryParameter",
            "A required query parameter was not specified for this request.",
            QueryParameterName="api-version",
        )
    if not _VERSION.fullmatch(version):
        raise ApiError(400, "UnsupportedRequestVersion", "The specified request version is not supported.")


def answer(request: Request, status: int, body: Document | None, headers: dict[str, str] | None = None) -> Response:
    """A response with the headers that every answer of the service has."""
    common = {"DataServiceVersion": "3.0", "request-id": request_id(), "x-content-type-options": "nosniff"}
    common |= headers or {}
    asked = request.headers
    if asked.get("return-client-request-id", "").lower() == "true" and "client-request-id" in asked:
        common["client-request-id"] = asked["client-request-id"]
    if body is None:
        return Response(status_code=status, headers=common)
    return Response(json.dumps(body), status, common, media_type=_JSON)


def render_error(request: Request, error: ApiError) -> Response:
    """Batch's envelope for errors."""
    account = request.path_params.get("account", "")
    response = answer(request, error.status, None, error.headers)
    moment = ticks(request.app.state.cloud.clock.now())
    value = f"{error.message}\nRequestId:{response.headers['request-id']}\nTime:{moment}"
    body: Document = {
        "odata.metadata": f"{request.app.state.cloud.addresses.batch}/{account}"
        "/$metadata#Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element",
        "code": error.code,
        "message": {"lang": "en-US", "value": value},
    }
    if isinstance(error, DetailedError):
        body["values"] = error.values
    if request.method == "HEAD" or error.status == 304:
        return response
    headers = {name: text for name, text in response.headers.items() if name != "content-length"}
    return Response(json.dumps(body), error.status, headers, media_type=_JSON)


def _numbers(given: Document) -> Document:
    """The object with numbers where Azure CLI writes them as text, which the service understands."""
    for name in _INTEGERS & given.keys():
        if isinstance(given[name], str) and given[name].lstrip("-").isdigit():
            given[name] = int(given[name])
    return given


def _tag(document: Document) -> dict[str, str]:
    if "eTag" not in document:
        return {}
    return {"ETag": document["eTag"], "Last-Modified": http_date(modified(document))}


def _matches(condition: str, tag: str) -> bool:
    return condition == "*" or tag in [one.strip().strip('"') for one in condition.split(",")]


def _date(text: str) -> datetime:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError as error:
        raise ApiError(
            400, "InvalidHeaderValue", "The value provided for one of the HTTP headers was not in the correct format."
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
