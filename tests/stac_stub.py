"""A STAC API that can misbehave, a container and IMDS in one server; how to run the item harvester against it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import ThreadingHTTPServer
from operator import eq, ge, gt, le, lt
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import zstandard
from faulty import Faulty, running
from node_scripts import CLIENT_ID, HURRY, SCRIPTS, Answer, run

Json = dict[str, Any]
STARTED = "2026-01-01T00:00:00Z"
STARTED_THERE = "Thu, 01 Jan 2026 00:00:00 GMT"
FOREVER = datetime.max.replace(tzinfo=UTC)
CONFORMANCE = {
    "sorts": "https://api.stacspec.org/v1.0.0/item-search#sort",
    "picks_fields": "https://api.stacspec.org/v1.0.0/item-search#fields",
    "filters": "https://api.stacspec.org/v1.0.0/item-search#filter http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
}
COMPARISONS = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}


def item(number: int, moment: str | None = "", **properties: Any) -> bytes:
    """An item of the collection `c`; without a moment of its own, of a day of 2020 or later."""
    day = datetime.fromtimestamp(1_577_836_800 + 86_400 * number, UTC)
    text = f"{day:%Y-%m-%dT%H:%M:%SZ}" if moment == "" else moment
    geometry = {"type": "Point", "coordinates": [1.50, number]}
    return json.dumps(
        {
            "type": "Feature",
            "id": f"i{number:05}",
            "collection": "c",
            "geometry": geometry,
            "properties": {"datetime": text, **properties},
        }
    ).encode()


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def start(body: bytes) -> datetime | None:
    """Pgstac's rule."""
    dates = json.loads(body)["properties"] or {}
    if dates.get("start_datetime") and dates.get("end_datetime"):
        return instant(dates["start_datetime"])
    return instant(dates["datetime"]) if dates.get("datetime") else None


@dataclass
class Page:
    """What a search is about to answer; `twist` may change it."""

    number: int
    """Counts all searches, from 1."""
    query: Json
    bodies: list[bytes]
    token: str | None

    @property
    def second_look(self) -> bool:
        """Whether it is one for ids only."""
        return "fields" in self.query


Twist = Callable[[Page], Answer | None]


@dataclass
class Catalog:
    """Items and how they are served."""

    held: Callable[[str], str] = str
    """What it makes of a date before it sorts and compares."""
    end: dict[str, int] = field(default_factory=dict)
    """Dates that only it can hold: 1 for after all others, -1 for before them."""
    sorted_id: Callable[[str], str] = str
    compared_id: Callable[[str], str] = str
    ignores_filter: bool = False
    matched: Callable[[int], int] | None = None
    """The `numberMatched` of a search that found so many items; none is given without."""

    bodies: list[bytes] = field(default_factory=list)
    sorts: bool = True
    filters: bool = True
    picks_fields: bool = True
    twist: Twist = lambda page: None
    merge: bool = False
    of_last_search: int = 0
    searches: list[Json] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def search(self, query: Json) -> Answer:
        """A page; a token names the last item of the page before."""
        self.searches.append(query)
        self.times.append(time.monotonic())
        found = self.found(query)
        names = [json.loads(body)["id"] for body in found]
        first = 0
        if token := query.get("token"):
            if token not in names:
                return Answer(500, '{"description": "the token is gone"}')
            first = names.index(token) + 1
        bodies = found[first : first + query["limit"]]
        more = first + len(bodies) < len(found)
        self.of_last_search = len(found)
        page = Page(len(self.searches), query, bodies, json.loads(bodies[-1])["id"] if more and bodies else None)
        return self.twist(page) or self.answer(page)

    def found(self, query: Json) -> list[bytes]:
        """All items of a search, in its order."""
        bodies = [body for body in self.bodies if query["collections"] == ["c"]]
        if "ids" in query:
            bodies = [body for body in bodies if json.loads(body)["id"] in query["ids"]]
        if "filter" in query and not self.ignores_filter:
            bodies = [body for body in bodies if self.holds(query["filter"], body)]
        if "datetime" in query:
            bodies = [body for body in bodies if self.overlaps(body, query["datetime"])]
        if self.sorts and "sortby" in query:
            backwards = query["sortby"][0]["direction"] == "desc"
            bodies.sort(key=self.rank, reverse=backwards)
        return bodies

    def rank(self, body: bytes) -> tuple[datetime, int, str]:
        """Its place in the order; undated items are last."""
        return *(self.start(body) or (FOREVER, 2)), self.sorted_id(json.loads(body)["id"])

    def moment(self, text: str) -> tuple[datetime, int]:
        """A date as it is held: before all, among or after all that a calendar of four digits has."""
        try:
            return instant(self.held(text)), 0
        except ValueError:
            return (FOREVER, 1) if self.end.get(text, 1) > 0 else (datetime.min.replace(tzinfo=UTC), -1)

    def start(self, body: bytes) -> tuple[datetime, int] | None:
        """What an item is sorted by, by pgstac's rule."""
        dates = json.loads(body)["properties"] or {}
        ranged = dates.get("start_datetime") and dates.get("end_datetime")
        text = dates.get("start_datetime" if ranged else "datetime")
        return self.moment(text) if text else None

    def holds(self, node: Json, body: bytes) -> bool:
        """Whether a CQL2 condition is true of an item."""
        parts = node["args"]
        match node["op"]:
            case "and" | "or" as operator:
                return {"and": all, "or": any}[operator](self.holds(part, body) for part in parts)
            case "not":
                return not self.holds(parts[0], body)
            case "isNull":
                return self.start(body) is None
        name, value = parts[0]["property"], parts[1]
        known = {**json.loads(body), **json.loads(body)["properties"]}
        own = self.start(body) if name == "datetime" else known[name]
        wanted = self.moment(value["timestamp"]) if isinstance(value, dict) else value
        if name == "id":
            own, wanted = self.compared_id(own), self.compared_id(wanted)
        return own is not None and bool(COMPARISONS[node["op"]](own, wanted))

    def overlaps(self, body: bytes, interval: str) -> bool:
        """Whether an item is within a closed `datetime` interval."""
        low, high = (None if bound == ".." else self.moment(bound) for bound in interval.split("/"))
        first = self.start(body)
        if first is None:
            return False
        dates = json.loads(body)["properties"]
        ranged = dates.get("start_datetime") and dates.get("end_datetime")
        last = self.moment(dates["end_datetime"]) if ranged else first
        return (high is None or first <= high) and (low is None or last >= low)

    def answer(self, page: Page) -> Answer:
        """The page as it goes over the wire."""
        link: Json = {"rel": "next", "method": "POST", "href": "{origin}/stac/search"}
        link |= (
            {"body": {"token": page.token}, "merge": True}
            if self.merge
            else {"body": {**page.query, "token": page.token}}
        )
        links = json.dumps([link] if page.token else [])
        count = f', "numberMatched": {self.matched(self.of_last_search)}' if self.matched else ""
        features = b", ".join(page.bodies).decode()
        return Answer(body=f'{{"type": "FeatureCollection", "features": [{features}], "links": {links}{count}}}')


class Server(ThreadingHTTPServer):
    """One catalog, one container, and tokens without end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.catalog = Catalog()
        self.blobs: dict[str, bytes] = {}
        self.written: list[str] = []
        self.date: str | None = STARTED_THERE
        """Its Date header; the container has a clock of its own."""
        self.storage_ahead = timedelta()
        """How far the container's clock is ahead."""
        self.modified: dict[str, datetime] = {}
        """When a blob was written, by the container's clock; now where it is not among them."""
        self.tokens = 0
        self.asked: list[str] = []
        self.credentials: list[str] = []
        """What came as Authorization."""
        self.faults: list[tuple[str, str]] = []
        self.set_budget(10_000, 1)

    @property
    def storage_now(self) -> datetime:
        """The present by the container's clock."""
        return datetime.now(UTC) + self.storage_ahead

    def set_budget(self, requests_per_second: float, running: int) -> None:
        """What the flow writes."""
        budget = {"requests_per_second": requests_per_second, "running": running}
        self.blobs["harvests/h/control/budget.json"] = json.dumps(budget).encode()


class _Handler(Faulty):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is written in two pieces

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/metadata/identity/oauth2/token":
            self.server.tokens += 1
            token = {"access_token": f"secret-{self.server.tokens}", "expires_in": "3600", "token_type": "Bearer"}
            return self.send(Answer(body=json.dumps(token)))
        self.server.asked.append(self.path)
        if path.startswith("/results/"):
            return self.send_blob(unquote(path.removeprefix("/results/")))
        assert "api-version=2026-04-15" in self.path
        assert "sign=false" in self.path
        catalog = self.server.catalog
        assert path == "/stac/conformance"
        classes = [text for name, text in CONFORMANCE.items() if getattr(catalog, name)]
        return self.send(Answer(body=json.dumps({"conformsTo": classes})))

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self.server.credentials.append(self.headers["Authorization"])
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert query["sign"] == "false"
        self.send(self.server.catalog.search(query))

    def do_PUT(self) -> None:
        name = unquote(urlsplit(self.path).path.removeprefix("/results/"))
        self.server.blobs[name] = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.written.append(name)
        self.send(Answer(201, ""))

    def send_blob(self, name: str) -> None:
        content = self.server.blobs.get(name)
        etag = f'"{hash(content)}"'
        if content is None:
            return self.send(Answer(404, ""))
        same = self.headers.get("If-None-Match") == etag
        now = self.server.storage_now
        dates = {"Date": now, "Last-Modified": self.server.modified.get(name, now)}
        headers = {header: format_datetime(moment, usegmt=True) for header, moment in dates.items()}
        return self.send(Answer(304 if same else 200, "" if same else content.decode(), {"ETag": etag, **headers}))

    def send(self, answer: Answer) -> None:
        body = answer.body.replace("{origin}", self.server.origin).encode(errors="surrogateescape")
        self.send_response_only(answer.status)
        date = {} if self.server.date is None else {"Date": self.server.date}
        for name, value in (date | answer.headers).items():
            self.send_header(name, value)
        if answer.status != 304:
            self.send_header("Content-Length", str(len(body) + 10 * answer.torn))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = answer.torn

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server in a thread of its own."""
    with running(Server()) as server:
        yield server


@dataclass
class Outcome:
    """What a run of the harvester left."""

    finished: subprocess.CompletedProcess[str]
    server: Server

    @property
    def receipt(self) -> Json:
        """The receipt of a run that succeeded."""
        assert self.finished.returncode == 0, self.finished.stderr
        return dict(json.loads(self.server.blobs["harvests/h/items/c/shard.receipt.json"]))

    @property
    def lines(self) -> list[bytes]:
        """The archive's lines."""
        assert self.finished.returncode == 0, self.finished.stderr
        archive = self.server.blobs["harvests/h/items/c/shard.ndjson.zst"]
        with zstandard.ZstdDecompressor().stream_reader(archive) as reader:
            return reader.read().splitlines()

    @property
    def ids(self) -> list[str]:
        """The archive's ids."""
        return [json.loads(line)["id"] for line in self.lines]


def environment(server: Server, **shard: Any) -> dict[str, str]:
    """What the flow gives to a task."""
    asked = {
        "collection": "c",
        "page_size": 10,
        "page_quota": 1000,
        "harvest_started": STARTED,
        "name": "shard",
        **shard,
    }
    return {
        "GEOCATALOG_URL": server.origin,
        "GEOCATALOG_API_VERSION": "2026-04-15",
        "AZURE_CLIENT_ID": CLIENT_ID,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": server.origin,
        "SHARD": json.dumps(asked),
        "RESULTS_URL": f"{server.origin}/results",
        "HARVEST_PREFIX": "harvests/h",
        "ITEMS_PREFIX": "items/c/shard",
    }


def harvest(server: Server, folder: Path, variables: dict[str, str] | None = None, **shard: Any) -> Outcome:
    """Run the harvester alone, without waiting between attempts."""
    command = [sys.executable, "-I", "-c", HURRY, str(SCRIPTS / "harvest_items.py")]
    finished = run(command, folder, environment(server, **shard) | (variables or {}))
    assert "secret-" not in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr, finished.stderr
    return Outcome(finished, server)
