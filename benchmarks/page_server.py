"""`python page_server.py PAGES [prepared]`: a STAC API of one collection, a container and IMDS, all from memory.

Prints its address when it serves. `GET /measured` answers the seconds between the first reading of the budget and the
last upload since it was last asked, so that all programs are timed alike: from when they have started and imported what
they need to the upload by which they say that they are done.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE_SIZE = 1000
_FIRST = datetime(2021, 1, 1, tzinfo=UTC)
BUDGET = "/results/h/control/budget.json"
_ASSETS = 7
COLLECTION = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "strips",
    "description": "Flight strips.",
    "license": "CC-BY-4.0",
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2021-01-01T00:00:00Z", None]]}},
    "links": [],
}
_CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/item-search#fields",
    "https://api.stacspec.org/v1.0.0/item-search#filter",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
]


def _item(number: int) -> dict[str, Any]:
    """An item of about 2.9 kB, whose id and moment are still to be filled in."""
    chance = random.Random(number)  # noqa: S311  # to be the same every time, not to be secret
    west, south = round(chance.uniform(-180, 179), 6), round(chance.uniform(-90, 89), 6)
    east, north = round(west + chance.uniform(0.05, 0.07), 6), round(south + chance.uniform(0.05, 0.07), 6)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    assets = {
        f"band-{asset}": {
            "href": f"https://example.com/strips/{chance.getrandbits(32):08x}/{{id}}/band-{asset}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "title": f"Band {asset} of a strip",
            "roles": ["data"],
            "eo:bands": [{"name": f"B{asset}", "common_name": "red", "description": "Reflectance at the surface"}],
        }
        for asset in range(_ASSETS)
    }
    return {
        "id": "{id}",
        "bbox": [west, south, east, north],
        "type": "Feature",
        "links": [{"rel": "collection", "type": "application/json", "href": "https://example.com/collections/strips"}],
        "assets": assets,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "collection": "strips",
        "properties": {
            "datetime": "{moment}",
            "gsd": 0.6,
            "created": "2026-01-01T00:00:00Z",
            "updated": "2026-01-01T00:00:00Z",
            "_msft:ts": "2026-01-01T00:00:02.123456Z",
            "proj:bbox": [chance.uniform(3e5, 6e5) for _ in range(4)],
            "proj:shape": [chance.randrange(9000, 13000), chance.randrange(9000, 13000)],
            "proj:transform": [0.6, 0.0, chance.uniform(3e5, 6e5), 0.0, -0.6, chance.uniform(4e6, 5e6), 0, 0, 1],
        },
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.0.0/schema.json"],
        "stac_version": "1.0.0",
    }


def _template(item: dict[str, Any]) -> str:
    """A %-format for an item's text."""
    text = json.dumps(item, separators=(",", ":")).replace("%", "%%")
    return text.replace("{id}", "%(id)s").replace("{moment}", "%(moment)s")


FULL = [_template(_item(number)) for number in range(PAGE_SIZE)]
IDS = '{"id":"%(id)s","collection":"strips","properties":{"datetime":"%(moment)s","updated":"2026-01-01T00:00:00Z"}}'


def texts(first: int, count: int, *, ids_only: bool = False) -> Iterator[str]:
    """Items in the order of time, as JSON."""
    for number in range(first, first + count):
        template = IDS if ids_only else FULL[number % PAGE_SIZE]
        moment = _FIRST + timedelta(minutes=number)
        yield template % {"id": f"strip_{number:09}", "moment": f"{moment:%FT%TZ}"}


class Catalog:
    """Pages of items in the order of time, made when they are asked for."""

    def __init__(self, pages: int, *, prepared: bool) -> None:
        self.count = pages
        self.page = lru_cache(None if prepared else 0)(self.made_page)
        for number in range(pages if prepared else 0):
            self.page(number, ids_only=False, backwards=False)
            self.page(number, ids_only=True, backwards=True)

    def made_page(self, number: int, *, ids_only: bool, backwards: bool) -> bytes:
        """A page's features as JSON, counted from 0 in the order of the search."""
        first = (self.count - 1 - number if backwards else number) * PAGE_SIZE
        items = list(texts(first, PAGE_SIZE, ids_only=ids_only))
        return ",".join(reversed(items) if backwards else items).encode()

    def search(self, query: dict[str, Any], address: str) -> list[bytes]:
        """What a search answers, in pieces; one with a filter is for what lies behind the last item."""
        if "filter" in query:
            return [b'{"type":"FeatureCollection","features":[],"links":[]}']
        number = int(query.get("token", 0))
        ids_only = "fields" in query
        features = self.page(number, ids_only=ids_only, backwards=ids_only)
        following = {"rel": "next", "method": "POST", "href": address, "body": {**query, "token": str(number + 1)}}
        links = json.dumps([following] if number + 1 < self.count else [])
        return [b'{"type":"FeatureCollection","features":[', features, f'],"links":{links}}}'.encode()]


class Server(ThreadingHTTPServer):
    """Serves the catalog, and notes when."""

    daemon_threads = True
    begun = last_upload = 0.0

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.catalog, self.origin = catalog, f"http://127.0.0.1:{self.server_port}"
        landing = {"rel": "self", "href": f"{self.origin}/stac"}, {"rel": "root", "href": f"{self.origin}/stac"}
        search = {"rel": "search", "method": "POST", "href": f"{self.origin}/stac/search", "type": "application/json"}
        self.documents: dict[str, Any] = {
            "/stac": {
                "type": "Catalog",
                "stac_version": "1.0.0",
                "id": "memory",
                "description": "Pages from memory.",
                "conformsTo": _CONFORMANCE,
                "links": [*landing, search, {**search, "method": "GET"}],
            },
            "/stac/conformance": {"conformsTo": _CONFORMANCE},
            "/stac/collections/strips": COLLECTION,
            "/metadata/identity/oauth2/token": {"access_token": "t", "expires_in": "36000", "token_type": "Bearer"},
            BUDGET: {"requests_per_second": 1e6, "running": 1},
        }

    def measured(self) -> dict[str, float]:
        """Seconds from the first reading of the budget to the last upload."""
        seconds = self.last_upload - self.begun
        self.begun = self.last_upload = 0.0
        return {"seconds": seconds}


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path == BUDGET:
            self.server.begun = self.server.begun or time.perf_counter()
        document = self.server.measured() if path == "/measured" else self.server.documents.get(path)
        self.send(200 if document else 404, [json.dumps(document).encode()])

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send(200, self.server.catalog.search(query, f"{self.server.origin}/stac/search"))

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send(201, [])
        self.server.last_upload = time.perf_counter()

    def send(self, status: int, parts: list[bytes]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(sum(map(len, parts))))
        self.end_headers()
        for part in parts:
            self.wfile.write(part)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


if __name__ == "__main__":
    with Server(Catalog(int(sys.argv[1]), prepared="prepared" in sys.argv)) as server:
        print(server.origin, flush=True)  # noqa: T201  # its only answer
        server.serve_forever()
