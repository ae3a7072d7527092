"""The links that the service makes, in the order in which Azure/azure-sdk-assets recorded them."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from starlette.requests import Request

from local_azure.store import Document

JSON, GEOJSON = "application/json", "application/geo+json"
_SCHEMA = "application/schema+json"
_QUERYABLES = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
_MADE = {"collection", "item", "items", "parent", "root", "self", _QUERYABLES}
"""Links of these relations are the server's, whatever a document brings."""


class Links:
    """Makes links below the public address of a STAC API."""

    def __init__(self, root: str) -> None:
        self._root = root

    def of_collections(self, request: Request) -> list[Document]:
        """Those of the list of collections, whose own address keeps its query."""
        return [self.root, _link("self", JSON, self.address(request))]

    def of_collection(self, collection_id: str, others: Iterable[Document]) -> list[Document]:
        """Those of a collection, then what others it has."""
        own = self._collection(collection_id)
        return [
            _link("items", GEOJSON, f"{own}/items"),
            _link("parent", JSON, f"{self._root}/"),
            self.root,
            _link("self", JSON, own),
            *_foreign(others),
            {"rel": _QUERYABLES, "type": _SCHEMA, "title": "Queryables", "href": f"{own}/queryables"},
        ]

    def of_item(self, collection_id: str, item_id: str, others: Iterable[Document] = ()) -> list[Document]:
        """Those of an item, then what others it has."""
        own = self._collection(collection_id)
        return [
            _link("collection", JSON, own),
            _link("parent", JSON, own),
            self.root,
            _link("self", GEOJSON, f"{own}/items/{quote(item_id, safe='')}"),
            *_foreign(others),
        ]

    def of_search(self) -> list[Document]:
        """Those of a page of a search, but for the next one."""
        return [self.root, _link("self", GEOJSON, f"{self._root}/search")]

    def of_items(self, collection_id: str) -> list[Document]:
        """Those of a page of a collection's items, but for the next one."""
        own = self._collection(collection_id)
        return [
            _link("collection", JSON, own),
            _link("parent", JSON, own),
            self.root,
            _link("self", GEOJSON, f"{own}/items"),
        ]

    async def next_page(self, request: Request, token: str) -> Document:
        """The link to the page behind a token."""
        link: Document = {"rel": "next", "type": GEOJSON, "method": request.method}
        if request.method == "GET":
            return {**link, "href": self.address(request, token=token)}
        return {**link, "href": self.address(request), "body": {**await request.json(), "token": token}}

    @property
    def root(self) -> Document:
        """The link to the landing page."""
        return _link("root", JSON, f"{self._root}/")

    def _collection(self, collection_id: str) -> str:
        return f"{self._root}/collections/{quote(collection_id, safe='')}"

    def address(self, request: Request, **changes: Any) -> str:
        """The request's own public address with some query parameters set."""
        query = {**parse_qs(request.url.query, keep_blank_values=True), **changes}
        address = self._root + quote(request.scope["path"].removeprefix("/stac"))
        return f"{address}?{urlencode(query, doseq=True)}" if query else address


def _link(relation: str, media_type: str, address: str) -> Document:
    return {"rel": relation, "type": media_type, "href": address}


def _foreign(links: Iterable[Document]) -> list[Document]:
    return [link for link in links if link.get("rel") not in _MADE]
