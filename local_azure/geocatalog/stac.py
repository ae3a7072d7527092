"""The STAC API of a GeoCatalog, served by stac-fastapi from the catalog file.

Follows https://learn.microsoft.com/rest/api/planetarycomputer and, where that is silent,
stac-fastapi-pgstac 6 and later: token paging, CQL2, sortby, fields, query, and ten collections a
page. Stored items are answered byte for byte, without links of the server's own, where `sign=false`
is asked for; otherwise the addresses of assets in blob storage carry a SAS.

Differences: at most 1000 items a page, as the public Planetary Computer; no previous pages; the
signatures open nothing, and `duration` changes nothing.
"""

import json
import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import msgspec
from fastapi import APIRouter, FastAPI
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import ItemCollectionUri, create_get_request_model, create_post_request_model
from stac_fastapi.extensions.collection_search import CollectionSearchExtension
from stac_fastapi.extensions.fields import FieldsExtension
from stac_fastapi.extensions.filter import ItemCollectionFilterExtension, SearchFilterExtension
from stac_fastapi.extensions.filter.client import AsyncBaseFiltersClient
from stac_fastapi.extensions.pagination import OffsetPaginationExtension, TokenPaginationExtension
from stac_fastapi.extensions.query import QueryExtension
from stac_fastapi.extensions.sort import ItemCollectionSortExtension, SearchSortExtension
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import AsyncBaseCoreClient
from stac_fastapi.types.errors import InvalidQueryParameter, NotFoundError, StacApiError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from local_azure.geocatalog import filters
from local_azure.geocatalog.catalog import Catalog, Search, SortKey, TokenGoneError
from local_azure.geocatalog.documents import feature_collection, with_fields, with_links, with_signed_assets
from local_azure.geocatalog.filters import Condition
from local_azure.geocatalog.times import interval
from local_azure.store import Document

logger = logging.getLogger("local_azure")


class _Identified(msgspec.Struct):
    id: str


_LARGEST_PAGE = 1000
_GEOJSON = "application/geo+json"
_STATUSES: dict[type[Exception], int] = {NotFoundError: 404, InvalidQueryParameter: 400}


def stac_app(catalog: Catalog, root: str) -> FastAPI:
    """The application below `/stac`; `root` is its public address."""
    queryables = Queryables(catalog)
    searching = [SearchFilterExtension(client=queryables), SearchSortExtension(), *_paged()]
    listing = [ItemCollectionFilterExtension(client=queryables), ItemCollectionSortExtension(), *_paged()]
    collections = CollectionSearchExtension.from_extensions([OffsetPaginationExtension()])
    app = FastAPI(openapi_url="/stac/api", docs_url=None, redoc_url=None)
    settings = ApiSettings(
        stac_fastapi_title="GeoCatalog",
        stac_fastapi_description="A GeoCatalog of local_azure",
        stac_fastapi_version="1.0",
    )
    _Api(
        settings=settings,
        app=app,
        client=CatalogClient(catalog, root),
        router=APIRouter(prefix="/stac"),
        extensions=[*searching, *listing, collections],
        search_get_request_model=create_get_request_model(searching),
        search_post_request_model=create_post_request_model(searching),
        items_get_request_model=create_get_request_model(listing, base_model=ItemCollectionUri),
        collections_get_request_model=collections.GET,
        exceptions={},
        middlewares=[],
    )
    app.add_exception_handler(StacApiError, _refused)
    app.add_exception_handler(TokenGoneError, _refused)
    app.add_exception_handler(HTTPException, _unrouted)
    app.router.redirect_slashes = False
    return app


def _paged() -> list[Any]:
    return [FieldsExtension(), QueryExtension(), TokenPaginationExtension()]


class _Api(StacApi):
    def add_health_check(self) -> None:
        """A GeoCatalog has none."""


class Queryables(AsyncBaseFiltersClient):
    """The queryables that pgstac starts with; any other property can be queried too."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self._catalog = catalog

    async def get_queryables(self, collection_id: str | None = None, **kwargs: Any) -> Document:
        """The JSON schema of the queryables."""
        if collection_id is not None:
            _collection(self._catalog, collection_id)
        core = "https://schemas.stacspec.org/v1.0.0/item-spec/json-schema"
        return {
            "$schema": "https://json-schema.org/draft/2019-09/schema",
            "$id": str(kwargs["request"].url),
            "type": "object",
            "title": "STAC Queryables.",
            "properties": {
                "id": {"title": "Item ID", "$ref": f"{core}/item.json#/definitions/core/allOf/2/properties/id"},
                "geometry": {"title": "Item Geometry", "$ref": "https://geojson.org/schema/Feature.json"},
                "datetime": {"title": "Acquired", "$ref": f"{core}/datetime.json#/properties/datetime"},
            },
            "additionalProperties": True,
        }


class CatalogClient(AsyncBaseCoreClient):
    """Answers what stac-fastapi has parsed."""

    def __init__(self, catalog: Catalog, root: str) -> None:
        super().__init__(landing_page_id="geocatalog")
        self._catalog = catalog
        self._root = root

    async def landing_page(self, **kwargs: Any) -> Any:
        """The landing page; its links keep to the public address, whoever asks."""
        page = self._landing_page(f"{self._root}/", self.conformance_classes(), [])
        link = {"rel": "http://www.opengis.net/def/rel/ogc/1.0/queryables", "type": "application/schema+json"}
        page["links"].append({**link, "href": f"{self._root}/queryables", "method": "GET"})
        description = {"rel": "service-desc", "type": "application/vnd.oai.openapi+json;version=3.0"}
        page["links"].append({**description, "href": f"{self._root}/api"})
        return page

    async def all_collections(self, **kwargs: Any) -> Any:
        """A page of collections."""
        request = kwargs["request"]
        if kwargs["bbox"] or kwargs["datetime"]:
            raise InvalidQueryParameter("Collections cannot be searched by bbox or datetime here.")
        limit, offset = kwargs["limit"] or 10, kwargs["offset"] or 0
        found = self._catalog.collections(limit + 1, offset)
        links = self._links(request, "application/json")
        if len(found) > limit:
            following = self._address(request, limit=limit, offset=offset + limit)
            links.insert(0, {"rel": "next", "type": "application/json", "method": "GET", "href": following})
        bodies = await _signed_as_asked(request, found[:limit])
        documents = [msgspec.Raw(self._linked(body)) for body in bodies]
        body = {"collections": documents, "links": links, "numberReturned": len(documents)}
        return Response(msgspec.json.encode(body), media_type="application/json")

    async def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        """One collection."""
        (found,) = await _signed_as_asked(kwargs["request"], [_collection(self._catalog, collection_id)])
        return Response(self._linked(found), media_type="application/json")

    async def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        """One item, as stored."""
        _collection(self._catalog, collection_id)
        found = self._catalog.item(collection_id, item_id)
        if found is None:
            raise NotFoundError(f"Item {item_id} in Collection {collection_id} does not exist.")
        (body,) = await _signed_as_asked(kwargs["request"], [found])
        return Response(body, media_type=_GEOJSON)

    async def item_collection(self, collection_id: str, *args: Any, **kwargs: Any) -> Any:
        """A page of one collection's items."""
        _collection(self._catalog, collection_id)
        return await self._page({**kwargs, "collections": [collection_id]})

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
        request = asked["request"]
        page = await run_in_threadpool(self._catalog.page, _search(asked))
        bodies = await _signed_as_asked(request, page.bodies)
        if fields := asked["fields"]:
            include = [name.lstrip("+ ") for name in fields if not name.startswith("-")]
            exclude = [name[1:] for name in fields if name.startswith("-")]
            bodies = (with_fields(body, include, exclude) for body in bodies)
        links = self._links(request, _GEOJSON)
        if page.next_token:
            links.insert(0, await self._next_link(request, page.next_token))
        return Response(feature_collection(bodies, links), media_type=_GEOJSON)

    async def _next_link(self, request: Request, token: str) -> Document:
        link = {"rel": "next", "type": _GEOJSON, "method": request.method}
        if request.method == "GET":
            return {**link, "href": self._address(request, token=token)}
        return {**link, "href": self._address(request), "body": {**await request.json(), "token": token}}

    def _links(self, request: Request, media_type: str) -> list[Document]:
        return [
            {"rel": "root", "type": "application/json", "href": f"{self._root}/"},
            {"rel": "self", "type": media_type, "href": self._address(request)},
        ]

    def _address(self, request: Request, **changes: Any) -> str:
        """The request's own public address with some query parameters set."""
        query = {**parse_qs(request.url.query, keep_blank_values=True), **changes}
        address = self._root + quote(request.scope["path"].removeprefix("/stac"))
        return f"{address}?{urlencode(query, doseq=True)}" if query else address

    def _linked(self, collection: bytes) -> bytes:
        """A collection with the links that the server makes."""
        own = f"{self._root}/collections/{quote(msgspec.json.decode(collection, type=_Identified).id, safe='')}"
        made = [
            {"rel": "items", "type": _GEOJSON, "href": f"{own}/items"},
            {"rel": "parent", "type": "application/json", "href": f"{self._root}/"},
            {"rel": "root", "type": "application/json", "href": f"{self._root}/"},
            {"rel": "self", "type": "application/json", "href": own},
        ]
        ours = {link["rel"] for link in made}
        return with_links(collection, lambda links: [*made, *(link for link in links if link.get("rel") not in ours)])


async def _signed_as_asked(request: Request, documents: Iterable[bytes]) -> Iterable[bytes]:
    """Documents with signed assets unless the query, or the body of a search by POST, says otherwise.

    The SDKs differ in where they put it: https://learn.microsoft.com/dotnet/api/azure.analytics.planetarycomputer.stacclient.search
    """
    asked = {**(await request.json() if request.method == "POST" else {}), **request.query_params}
    return documents if str(asked.get("sign")).lower() == "false" else map(with_signed_assets, documents)


def _collection(catalog: Catalog, collection_id: str) -> bytes:
    found = catalog.collection(collection_id)
    if found is None:
        raise NotFoundError(f"Collection {collection_id} does not exist.")
    return found


def _search(asked: dict[str, Any]) -> Search:
    keys = tuple(_sort_key(field) for field in asked["sortby"] or [])
    return Search(tuple(_conditions(asked)), keys, min(asked["limit"] or 10, _LARGEST_PAGE), asked["token"])


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
    if asked["filter_expr"]:
        yield filters.parse(asked["filter_expr"], asked["filter_lang"] or "cql2-text")
    if query := asked["query"]:
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
    status = _STATUSES.get(type(error), 500)
    return JSONResponse({"code": type(error).__name__, "description": str(error)}, status)


async def _unrouted(request: Request, error: Exception) -> Response:
    """What stac-fastapi refuses itself; a path or method it does not know is a 501."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class alone
    if error.status_code not in (404, 405):
        return JSONResponse({"code": "InvalidQueryParameter", "description": error.detail}, error.status_code)
    logger.warning("geocatalog: no route for %s %s", request.method, request.url.path)
    sentence = f"local_azure has no {request.method} {request.url.path} in geocatalog."
    return JSONResponse({"code": "NotImplemented", "description": sentence}, 501)
