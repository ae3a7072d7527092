"""The STAC API of a GeoCatalog, served by stac-fastapi from the catalog file.

Follows recorded answers (Azure/azure-sdk-assets): statuses, headers, members and their order, texts of errors; where
they are silent, stac-fastapi-pgstac 3.0.0a4 on pypgstac 0.8.6, which answers as they do. All collections are in one
answer. Items are answered as they are stored; with `sign=true`, the addresses of assets in blob storage carry a SAS.

Differences: the largest page is `--geocatalog-limit`; no previous pages; the signatures open nothing, and `duration`
changes nothing; a catalog folder's items keep the links that they have there.
"""

import json
import logging
from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import ItemCollectionUri, create_get_request_model, create_post_request_model
from stac_fastapi.extensions.fields import FieldsExtension
from stac_fastapi.extensions.filter import FilterExtension
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.extensions.query import QueryExtension
from stac_fastapi.extensions.sort import SearchSortExtension
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import AsyncBaseCoreClient
from stac_fastapi.types.errors import InvalidQueryParameter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from local_azure.errors import ApiError
from local_azure.geocatalog import filters
from local_azure.geocatalog.catalog import Catalog, Search, SortKey, TokenGoneError
from local_azure.geocatalog.documents import item_page, search_page, with_fields, with_links, with_signed_assets
from local_azure.geocatalog.envelope import bad_request, no_item, render
from local_azure.geocatalog.filters import Condition, UndeclaredMomentError
from local_azure.geocatalog.links import GEOJSON, JSON, Links
from local_azure.geocatalog.queryables import Queryables
from local_azure.geocatalog.times import interval
from local_azure.page_limit import PageLimit
from local_azure.store import Document

logger = logging.getLogger("local_azure")

_CONFORMANCE = [
    "http://www.opengis.net/spec/cql2/1.0/conf/basic-cql2",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-text",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30",
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/filter",
    "https://api.stacspec.org/v1.0.0-rc.2/item-search#filter",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#fields",
    "https://api.stacspec.org/v1.0.0/item-search#query",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
]
_UNKNOWN_ITEM = "/stac/collections/{collection_id}/items/{item_id:path}"


def stac_app(catalog: Catalog, root: str, limit: PageLimit) -> FastAPI:
    """The application below `/stac`; `root` is its public address."""
    paging = TokenPaginationExtension()
    queryables = FilterExtension(client=Queryables(catalog, root))
    searching = [queryables, SearchSortExtension(), FieldsExtension(), QueryExtension(), paging]
    app = FastAPI(openapi_url="/stac/api", docs_url=None, redoc_url=None)
    settings = ApiSettings(
        stac_fastapi_title="GeoCatalog",
        stac_fastapi_description="A GeoCatalog of local_azure",
        stac_fastapi_version="1.0",
    )
    _Api(
        settings=settings,
        app=app,
        client=CatalogClient(catalog, root, limit),
        router=APIRouter(prefix="/stac"),
        extensions=searching,
        search_get_request_model=create_get_request_model(searching),
        search_post_request_model=create_post_request_model(searching),
        items_get_request_model=create_get_request_model([paging], base_model=ItemCollectionUri),
        exceptions={},
        middlewares=[],
    )
    app.add_api_route(_UNKNOWN_ITEM, _no_item_of_several_segments, include_in_schema=False)
    for kind in (ApiError, InvalidQueryParameter, RequestValidationError, TokenGoneError, UndeclaredMomentError):
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(HTTPException, _unrouted)
    app.router.redirect_slashes = False
    return app


async def _no_item_of_several_segments(request: Request, collection_id: str, item_id: str) -> Response:
    """The route of an item has one segment for its id: one with a slash in it, however encoded, is not found."""
    raise no_item(request.url.path, collection_id, item_id)


class _Api(StacApi):
    def add_health_check(self) -> None:
        """A GeoCatalog has none."""


class CatalogClient(AsyncBaseCoreClient):
    """Answers what stac-fastapi has parsed."""

    def __init__(self, catalog: Catalog, root: str, limit: PageLimit) -> None:
        super().__init__(landing_page_id="geocatalog")
        self._catalog = catalog
        self._root = root
        self._links = Links(root)
        self._limit = limit

    def conformance_classes(self) -> list[str]:
        """The classes that the service names."""
        return _CONFORMANCE

    async def landing_page(self, **kwargs: Any) -> Any:
        """The landing page; its links keep to the public address, whoever asks."""
        page = self._landing_page(f"{self._root}/", self.conformance_classes(), [])
        link = {"rel": "http://www.opengis.net/def/rel/ogc/1.0/queryables", "type": "application/schema+json"}
        page["links"].append({**link, "href": f"{self._root}/queryables", "method": "GET"})
        description = {"rel": "service-desc", "type": "application/vnd.oai.openapi+json;version=3.0"}
        page["links"].append({**description, "href": f"{self._root}/api"})
        return page

    async def all_collections(self, **kwargs: Any) -> Any:
        """All collections in one answer."""
        request = kwargs["request"]
        found = self._catalog.collections()
        documents = [msgspec.Raw(self._linked(body)) for body in _signed_as_asked(request, found)]
        numbers = {"numberMatched": len(documents), "numberReturned": len(documents)}
        body = {"collections": documents, "links": self._links.of_collections(request), **numbers}
        return Response(msgspec.json.encode(body), media_type=JSON)

    async def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        """One collection."""
        (found,) = _signed_as_asked(kwargs["request"], [self._catalog.collection(collection_id)])
        return Response(self._linked(found), media_type=JSON)

    async def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        """One item."""
        self._catalog.collection(collection_id)
        found = self._catalog.item(collection_id, item_id)
        if found is None:
            raise no_item(kwargs["request"].url.path, collection_id, item_id)
        (body,) = _signed_as_asked(kwargs["request"], [found])
        return Response(body, media_type=GEOJSON)

    async def item_collection(self, collection_id: str, *args: Any, **kwargs: Any) -> Any:
        """A page of one collection's items."""
        self._catalog.collection(collection_id)
        bodies, following = await self._found({**kwargs, "collections": [collection_id]})
        links = [*self._links.of_items(collection_id), *following]
        return Response(item_page(bodies, links), media_type=GEOJSON)

    async def get_search(self, *args: Any, **kwargs: Any) -> Any:
        """A page of a search."""
        if kwargs["bbox"] and kwargs["intersects"]:
            raise InvalidQueryParameter("intersects and bbox parameters are mutually exclusive")
        return await self._page(kwargs)

    async def post_search(self, search_request: Any, **kwargs: Any) -> Any:
        """A page of a search."""
        asked = {**dict(search_request), **kwargs}
        asked["sortby"] = [f"{'-' if key.direction == 'desc' else ''}{key.field}" for key in asked["sortby"] or []]
        fields = asked["fields"]
        asked["fields"] = [*(fields.include or ()), *(f"-{name}" for name in fields.exclude or ())] if fields else []
        asked["intersects"] = asked["intersects"] and asked["intersects"].model_dump_json()
        return await self._page(asked)

    async def _page(self, asked: dict[str, Any]) -> Response:
        bodies, following = await self._found(asked)
        media_type = GEOJSON
        if fields := asked["fields"]:
            include = [name.lstrip("+ ") for name in fields if not name.startswith("-")]
            exclude = [name[1:] for name in fields if name.startswith("-")]
            bodies = (with_fields(body, include, exclude, self._links.of_item) for body in bodies)
            media_type = JSON
        return Response(search_page(bodies, [*self._links.of_search(), *following]), media_type=media_type)

    async def _found(self, asked: dict[str, Any]) -> tuple[Iterable[bytes], list[Document]]:
        """A page's items, and the link to the next page where there is one."""
        request: Request = asked["request"]
        limit = self._limit.size(await _asked_limit(request))
        page = await run_in_threadpool(self._catalog.page, _search(asked, limit))
        following = [await self._links.next_page(request, page.next_token)] if page.next_token else []
        return _signed_as_asked(request, page.bodies), following

    def _linked(self, collection: bytes) -> bytes:
        """A collection with the links that the server makes."""
        own = msgspec.json.decode(collection, type=_Named).id
        return with_links(collection, lambda links: self._links.of_collection(own, links))


class _Named(msgspec.Struct):
    id: str


def _signed_as_asked(request: Request, documents: Iterable[bytes]) -> Iterable[bytes]:
    """Documents as they are, or with signed assets where the query says `sign=true`."""
    asked = request.query_params.get("sign", "").lower() == "true"
    return map(with_signed_assets, documents) if asked else documents


async def _asked_limit(request: Request) -> int:
    """The `limit` that was sent, which stac-fastapi has found to be a positive number, and has cut."""
    sent = await request.json() if request.method == "POST" else request.query_params
    return int(sent.get("limit") or 10)


def _search(asked: dict[str, Any], limit: int) -> Search:
    keys = tuple(_sort_key(field) for field in asked.get("sortby") or [])
    return Search(tuple(_conditions(asked)), keys, limit, asked["token"])


def _sort_key(field: str) -> SortKey:
    """The key that `-properties.datetime` names; a plus sign arrives as a space where it was not encoded."""
    return SortKey(field.lstrip("+- ").removeprefix("properties."), field.startswith("-"))


def _conditions(asked: dict[str, Any]) -> Iterable[Condition]:
    for parameter, name in (("collections", "collection"), ("ids", "id")):
        if values := asked.get(parameter):
            placeholders = ", ".join("?" * len(values))
            yield Condition(f"{name} = ?" if len(values) == 1 else f"{name} IN ({placeholders})", tuple(values))
    if asked["bbox"]:
        yield filters.relates("intersects", filters.box(asked["bbox"]))
    if asked.get("intersects"):
        yield filters.relates("intersects", filters.geojson(asked["intersects"]))
    if asked["datetime"]:
        yield _overlap(asked["datetime"])
    if asked.get("filter_expr"):
        yield filters.parse(asked["filter_expr"], asked["filter_lang"] or "cql2-text")
    if query := asked.get("query"):
        yield filters.from_query(_json(query) if isinstance(query, str) else query)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidQueryParameter(f"query is not JSON: {error}") from error


def _overlap(text: str) -> Condition:
    bounds = interval(text.split("/"))
    if bounds is None or bounds[0] > bounds[1]:
        raise InvalidQueryParameter(f"Datetime parameter {text} is invalid.")
    return Condition("starts <= ? AND ends >= ?", (bounds[1], bounds[0]))


async def _refused(request: Request, error: Exception) -> Response:
    return render(request, _as_answered(error))


def _as_answered(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            return bad_request(told)
        case InvalidQueryParameter():
            return bad_request(str(error))
    return ApiError(500, "InternalServerError", str(error))


async def _unrouted(request: Request, error: Exception) -> Response:
    """What stac-fastapi refuses itself; a path or method it does not know is a 501."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class alone
    if error.status_code not in (404, 405):
        return render(request, bad_request(error.detail))
    logger.warning("geocatalog: no route for %s %s", request.method, request.url.path)
    sentence = f"local_azure has no {request.method} {request.url.path} in geocatalog."
    return render(request, ApiError(501, "NotImplemented", sentence))
