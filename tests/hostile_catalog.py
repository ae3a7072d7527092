"""A STAC API on loopback whose truth a test knows, and which changes while it is read.

`Manner` says in what it differs from a GeoCatalog, `Adversary` edits the items before each call and after each page.
The catalog remembers every version that an item had and which items were touched since the first call, so that a test
can tell what a complete harvest must hold. One server plays the catalog, the results container and IMDS.
"""

import gzip
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

from faulty import running
from hostile_items import Comparison, Item, Json, UnsupportedFilterError, item_from, overlaps, picked

COLLECTION, OTHER = "c", "d"
BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""When the catalog is first asked, by its own clock."""
PER_CALL = timedelta(milliseconds=700)
"""How far its clock goes on between two calls."""
CLASSES = {
    "sort": "https://api.stacspec.org/v1.0.0/item-search#sort",
    "fields": "https://api.stacspec.org/v1.0.0/item-search#fields",
    "filter": "https://api.stacspec.org/v1.0.0-rc.2/item-search#filter",
    "cql2": "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
    "basic": "http://www.opengis.net/spec/cql2/1.0/conf/basic-cql2",
}


def english(item_id: str) -> tuple[str, str]:
    """Sort key of a collation that ignores letter case and punctuation first, as en_US.UTF-8 does."""
    return "".join(letter for letter in item_id.casefold() if letter.isalnum()), item_id.swapcase()


@dataclass(frozen=True)
class Manner:
    """How a catalog answers; with the defaults, as a GeoCatalog does."""

    lacks: tuple[str, ...] = ()
    """What it neither offers nor does: `sort`, `fields`, `filter`."""
    ignores: tuple[str, ...] = ()
    """What it offers and does not do: as above, and `direction` of a sort, and `second key` of one."""
    refuses: tuple[str, ...] = ()
    """What it offers and answers with 400: members of a search."""
    link: Literal["token", "merge", "get", "none"] = "token"
    cap: int | None = None
    """Most items of a page, whatever the limit."""
    ends_at_cap: bool = False
    """Whether no next link follows a page that the cap cut."""
    largest_limit: int | None = None
    """A larger limit is answered with 400, as pcstac does above 1,000."""
    matched: Literal["none", "right", "more", "zero"] = "none"
    sorts_english: bool = False
    compares_english: bool = False
    milliseconds: bool = False
    """Whether instants are sorted and compared in whole milliseconds, cut off."""
    ids_comparison: Literal["compared", "true", "unknown"] = "compared"
    inclusive: bool = False
    ids: Literal["right", "other", "foreign", "alone", "ignored", "any-case"] = "right"
    """How `ids` are heeded: with other items than those asked for, without the rest of the search, or not at all."""
    item: Literal["right", "other", "foreign"] = "right"
    stale: int = 0
    """How many calls old the answers to searches are."""
    undated_first: bool = False
    byte_order_mark: bool = False
    compressed: bool = False
    null_links: bool = False
    overlap: int = 0
    """Items of the page before that a page reached by a token begins with."""
    chances: tuple[tuple[str, float], ...] = ()
    """How likely each of `LIES` and `FAULTS` is, per page."""

    @property
    def honest(self) -> bool:
        """Whether a harvest can be complete: it differs from a GeoCatalog in what a client has to bear only."""
        borne = replace(self, chances=(), cap=None, compressed=False, null_links=False)
        borne = replace(borne, link=Manner.link, matched=Manner.matched, sorts_english=False, compares_english=False)
        lies = {name for name, _ in self.chances} - set(HARMLESS)
        agreed = self.sorts_english == self.compares_english
        return borne == Manner() and agreed and not lies and self.link != "none" and self.matched in ("none", "right")

    @property
    def comparison(self) -> Comparison:
        """How filters compare."""
        results = {"compared": "compared", "true": True, "unknown": None}
        return Comparison(
            english if self.compares_english else str,
            1000 if self.milliseconds else 1,
            results[self.ids_comparison],
            self.inclusive,
        )

    def does(self, feature: str) -> bool:
        """Whether it does what searches may ask for."""
        return feature not in self.lacks and feature not in self.ignores


@dataclass
class Page:
    """What a search is about to answer."""

    number: int
    query: Json
    items: list[Item]
    rest: list[Item]
    """What comes behind, in order."""
    matched: int
    following: Json | None
    """What the next link adds to the search."""


class Adversary(Protocol):
    """Edits a catalog while it is read."""

    def before(self, catalog: "Catalog") -> None:
        """Edit before a call is answered."""

    def after(self, catalog: "Catalog", page: Page) -> None:
        """Edit once a page is answered."""


@dataclass(frozen=True)
class Answer:
    """A response; one without a status is a connection that is dropped."""

    status: int | None = 200
    body: bytes = b""
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


NOT_FOUND = Answer(404, b'{"error": {"code": "ResourceNotFound", "message": "Resource not found."}}')
FAULTS = {
    "500": Answer(500, b'{"error": {"code": "InternalServerError", "message": "oops"}}'),
    "504": Answer(504, b"upstream request timeout", "text/plain"),
    "429": Answer(429, b'{"error": {"code": "TooManyRequests", "message": "slow down"}}'),
    "dropped": Answer(None),
    "html": Answer(200, b"<html><body>Please wait</body></html>", "text/html"),
    "cut off": Answer(200, b'{"type": "FeatureCollection", "features": [{"id": "'),
}


HARMLESS = ("ragged", "empty", "500", "504", "dropped", "html", "cut off")
"""What costs calls only."""
FAULTS_IN_A_ROW = 2


class Catalog:
    """Items of one collection, beside another one that has items of the same ids, and how they are served."""

    def __init__(
        self, bodies: Sequence[bytes], manner: Manner, adversary: Adversary, seed: int, most_calls: int
    ) -> None:
        self.items = {item.id: item for item in map(item_from, bodies)}
        self.first = dict(self.items)
        self.versions = {name: {item.body} for name, item in self.items.items()}
        self.touched: set[str] = set()
        self.manner, self.adversary, self.seed, self.most_calls = manner, adversary, seed, most_calls
        self.origin = ""
        self.calls = self.searches = self.faults = 0
        self.left_out: set[str] = set()
        self.ended_early = False
        self.past: list[dict[str, Item]] = []
        self.others = {name: _foreign(item) for name, item in list(self.items.items())[:20]}

    @property
    def now(self) -> datetime:
        """Its clock."""
        return BEGAN + self.calls * PER_CALL

    @property
    def stable(self) -> dict[str, Item]:
        """The items that were there unchanged from the first call to the last."""
        return {name: item for name, item in self.first.items() if name not in self.touched}

    def put(self, body: bytes) -> None:
        """Add or replace an item."""
        item = item_from(body)
        self.touched.add(item.id)
        self.versions.setdefault(item.id, set()).add(body)
        self.items[item.id] = item

    def remove(self, item_id: str) -> None:
        """Delete an item."""
        self.touched.add(item_id)
        del self.items[item_id]

    def answer(self, path: str, query: Json) -> Answer:
        """Answer one call; too many of them are refused, so that a harvest that would never end does."""
        self.calls += 1
        if self.calls > self.most_calls:
            return Answer(403, b"{}")
        if path == "/conformance":
            return Answer(body=json.dumps({"conformsTo": self._classes()}).encode())
        self.adversary.before(self)
        self.past.append(dict(self.items))
        if path == "/search":
            return self._search(query)
        return self._item(unquote(path.rpartition("/")[2]))

    def _classes(self) -> list[str]:
        gone = {"filter": {"filter", "cql2", "basic"}}
        lacking = set().union(*(gone.get(name, {name}) for name in self.manner.lacks))
        return [text for name, text in CLASSES.items() if name not in lacking]

    def _item(self, item_id: str) -> Answer:
        item = self.items.get(item_id)
        if self.manner.item == "other":
            item = min(self.items.values(), key=lambda other: (other.id == item_id, other.id))
        elif self.manner.item == "foreign":
            item = self.others.get(item_id) or next(iter(self.others.values()))
        return Answer(body=item.body, kind="application/geo+json") if item else NOT_FOUND

    def _search(self, query: Json) -> Answer:
        self.searches += 1
        dice = random.Random(f"{self.seed}/{self.searches}")  # noqa: S311  # it guards nothing
        lies = {name for name, chance in self.manner.chances if dice.random() < chance}
        fault = next((FAULTS[name] for name in sorted(lies) if name in FAULTS), None)
        self.faults = self.faults + 1 if fault else 0
        if fault and self.faults <= FAULTS_IN_A_ROW:
            return fault
        limit = int(query.get("limit") or 10)
        if (self.manner.largest_limit and limit > self.manner.largest_limit) or set(self.manner.refuses) & set(query):
            return Answer(400, b'{"error": {"code": "BadRequestError", "message": "Check the parameters."}}')
        try:
            page = self._page(query, limit, dice)
        except (KeyError, UnsupportedFilterError) as error:
            return Answer(500, json.dumps({"error": {"code": "InternalServerError", "message": str(error)}}).encode())
        honest = replace(page, items=list(page.items))
        for name in sorted(lies & set(LIES)):
            LIES[name](self, page, dice)
        answer = self._rendered(page)
        self.adversary.after(self, honest)
        return answer

    def _page(self, query: Json, limit: int, dice: random.Random) -> Page:
        found = self.found(query)
        size = min(limit, self.manner.cap or limit)
        if "ragged" in dict(self.manner.chances):
            size = dice.randint(1, size)
        start = self._position(found, query) if query.get("token") else 0
        begin = max(0, start - self.manner.overlap) if start else 0
        items, rest = found[begin : start + size], found[start + size :]
        ended = not rest or not items or (self.manner.ends_at_cap and size < limit)
        following = None if ended else {"token": f"next:{COLLECTION}:{items[-1].id}"}
        return Page(self.searches, query, items, rest, len(found), following)

    def _position(self, found: list[Item], query: Json) -> int:
        """How many items lie up to the one that the token names, where that is now; KeyError if it is gone."""
        anchor = self.items[query["token"].removeprefix(f"next:{COLLECTION}:")]
        with_anchor = self.in_order([*(item for item in found if item.id != anchor.id), anchor], query)
        place = with_anchor.index(anchor)
        return place + (anchor in found)

    def found(self, query: Json) -> list[Item]:
        """All that a search asks for, in its order."""
        stored = self.past[max(0, len(self.past) - 1 - self.manner.stale)]
        items = [item for item in stored.values() if COLLECTION in query.get("collections", [COLLECTION])]
        ids = query.get("ids") if self.manner.ids != "ignored" else None
        if ids:
            return self._by_ids(items, ids, query)
        return self.in_order(self._filtered(items, query), query)

    def _filtered(self, items: list[Item], query: Json) -> list[Item]:
        if "datetime" in query:
            items = [item for item in items if overlaps(item, query["datetime"])]
        if "filter" in query and self.manner.does("filter"):
            comparison = self.manner.comparison
            items = [item for item in items if comparison.holds(query["filter"], item)]
        return items

    def _by_ids(self, items: list[Item], ids: list[str], query: Json) -> list[Item]:
        match self.manner.ids:
            case "other":
                return [item for item in items if item.id not in ids][: len(ids)]
            case "foreign":
                return [self.others[name] for name in ids if name in self.others]
            case "alone":
                return [item for item in [*items, *self.others.values()] if item.id in ids]
            case "any-case":
                folded = {name.casefold() for name in ids}
                items = [item for item in items if item.id.casefold() in folded]
            case _:
                items = [item for item in items if item.id in ids]
        return self.in_order(self._filtered(items, query), query)

    def in_order(self, items: list[Item], query: Json) -> list[Item]:
        """Sorted as asked for; without `id` among the keys, ids come downwards, as in pgstac."""
        wanted = query.get("sortby") or [] if self.manner.does("sort") else []
        wanted = wanted[: None if self.manner.does("second key") else 1]
        heeded = self.manner.does("direction")
        keys = [(key["field"].removeprefix("properties."), heeded and key.get("direction") == "desc") for key in wanted]
        keys = keys or [("datetime", True)]
        if "id" not in [name for name, _ in keys]:
            keys.append(("id", True))
        for name, downwards in reversed(keys):
            items = sorted(items, key=lambda item: self._rank(name, item), reverse=downwards)  # used at once
        return items

    def _rank(self, name: str, item: Item) -> tuple[bool, object]:
        if name == "id":
            return True, english(item.id) if self.manner.sorts_english else item.id
        if name in ("datetime", "start_datetime"):
            undated = item.start is None
            start = Comparison(unit=1000 if self.manner.milliseconds else 1).cut(item.start or 0)
            return undated != self.manner.undated_first, 0 if undated else start
        return item.fields.get(name) is None, str(item.fields.get(name))

    def _rendered(self, page: Page) -> Answer:
        query = page.query
        chosen = query.get("fields") if self.manner.does("fields") else None
        bodies = [picked(item, chosen) if chosen else item.body for item in page.items]
        counts = {"right": page.matched, "more": page.matched + 7, "zero": 0}
        matched = f'"numberMatched": {counts[self.manner.matched]}, ' if self.manner.matched in counts else ""
        links: Sequence[Json] | None = self._links(page)
        if self.manner.null_links and not links:
            links = None
        body = b'{"type": "FeatureCollection", %b"features": [%b], "links": %b}' % (
            matched.encode(),
            b", ".join(bodies),
            json.dumps(links).encode(),
        )
        headers = (("Content-Encoding", "gzip"),) if self.manner.compressed else ()
        body = b"\xef\xbb\xbf" + body if self.manner.byte_order_mark else body
        body = gzip.compress(body, 1) if self.manner.compressed else body
        return Answer(200, body, "application/geo+json", headers)

    def _links(self, page: Page) -> list[Json]:
        if page.following is None or self.manner.link == "none":
            return []
        link: Json = {"rel": "next", "type": "application/geo+json"}
        if self.manner.link == "get":
            state = quote(json.dumps(page.query | page.following), safe="")
            return [link | {"method": "GET", "href": f"{self.origin}/stac/search?state={state}"}]
        link |= {"method": "POST", "href": f"{self.origin}/stac/search?api-version=2026-04-15"}
        if self.manner.link == "merge":
            return [link | {"merge": True, "body": page.following}]
        return [link | {"body": page.query | page.following}]


def _foreign(item: Item) -> Item:
    """An item of the other collection, of the same id and date."""
    return item_from(json.dumps({**item.document, "collection": OTHER, "geometry": None}).encode())


Lie = Callable[[Catalog, Page, random.Random], None]


def _leave_out(catalog: Catalog, page: Page, dice: random.Random) -> None:
    """Leave out an item; each one once in all, or nobody could tell that it is there."""
    if page.items and "ids" not in page.query and (item := dice.choice(page.items)).id not in catalog.left_out:
        catalog.left_out.add(item.id)
        page.items.remove(item)


def _end_early(catalog: Catalog, page: Page, _dice: random.Random) -> None:
    """Give no items and no link, once in all."""
    if not catalog.ended_early and page.items and "ids" not in page.query:
        catalog.ended_early = True
        page.items, page.following = [], None


def _empty(_catalog: Catalog, page: Page, _dice: random.Random) -> None:
    """Give no items, and a link that leads to them."""
    if page.items:
        page.items, page.following = [], {"n": page.number}


def _forget_link(_catalog: Catalog, page: Page, _dice: random.Random) -> None:
    page.following = None


def _repeat_link(_catalog: Catalog, page: Page, _dice: random.Random) -> None:
    if "token" in page.query:
        page.following = {"token": page.query["token"]}


def _go_back(catalog: Catalog, page: Page, dice: random.Random) -> None:
    """Begin with items that lie before the page, and that a filter by kind lets through as it does the first of it."""
    alike = [
        item
        for item in catalog.items.values()
        if page.items and item.fields.get("kind") == page.items[0].fields.get("kind")
    ]
    everything = catalog.in_order(alike, page.query)
    if page.items and page.items[0] in everything:
        place = everything.index(page.items[0])
        page.items = everything[max(0, place - dice.randint(1, 4)) : place] + page.items


def _twice(_catalog: Catalog, page: Page, dice: random.Random) -> None:
    page.items = [item for item in page.items for _ in range(dice.randint(1, 2))]


def _shuffle(_catalog: Catalog, page: Page, dice: random.Random) -> None:
    page.items = dice.sample(page.items, len(page.items))


def _strangers(catalog: Catalog, page: Page, dice: random.Random) -> None:
    if catalog.others:
        page.items.insert(dice.randint(0, len(page.items)), dice.choice(list(catalog.others.values())))


LIES: dict[str, Lie] = {
    "leaves out": _leave_out,
    "ends early": _end_early,
    "empty": _empty,
    "forgets link": _forget_link,
    "repeats link": _repeat_link,
    "goes back": _go_back,
    "twice": _twice,
    "shuffles": _shuffle,
    "strangers": _strangers,
    "ragged": lambda _catalog, _page, _dice: None,
}


@dataclass
class Container:
    """The results container."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    def ending(self, suffix: str) -> list[bytes]:
        """The content of the blobs whose names end so."""
        return [body for name, body in self.blobs.items() if name.endswith(suffix)]


class Server(ThreadingHTTPServer):
    """One catalog, one container, and tokens without end."""

    daemon_threads = True
    catalog: Catalog

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.container = Container()
        self.lock = threading.Lock()

    def serve(self, catalog: Catalog) -> None:
        """Serve that catalog, with an empty container."""
        budget = b'{"requests_per_second": 100000, "running": 1}'
        catalog.origin = self.origin
        self.catalog, self.container = catalog, Container({"harvests/h/control/budget.json": budget})


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is written in two pieces

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/metadata/identity/oauth2/token":
            token = {"access_token": "secret", "expires_in": "3600", "token_type": "Bearer"}
            return self._send(Answer(body=json.dumps(token).encode()))
        if address.path.startswith("/results/"):
            return self._send_blob(unquote(address.path.removeprefix("/results/")))
        state = parse_qs(address.query).get("state", ["{}"])[0]
        return self._ask(address.path, json.loads(state))

    def do_HEAD(self) -> None:
        self._send_blob(unquote(urlsplit(self.path).path.removeprefix("/results/")))

    def do_POST(self) -> None:
        self._ask(urlsplit(self.path).path, json.loads(self._body()))

    def do_PUT(self) -> None:
        self.server.container.blobs[unquote(urlsplit(self.path).path.removeprefix("/results/"))] = self._body()
        self._send(Answer(201))

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _ask(self, path: str, query: Json) -> None:
        with self.server.lock:
            answer = self.server.catalog.answer(path.removeprefix("/stac"), query)
            date = format_datetime(self.server.catalog.now, usegmt=True)
        self._send(answer, ("Date", date))

    def _send_blob(self, name: str) -> None:
        content = self.server.container.blobs.get(name)
        if content is None:
            return self._send(Answer(404))
        tag, now = f'"{hash(content)}"', format_datetime(datetime.now(UTC), usegmt=True)
        headers = (("ETag", tag), ("Date", now), ("Last-Modified", now))
        same = self.headers.get("If-None-Match") == tag
        return self._send(Answer(304 if same else 200, b"" if same else content, headers=headers))

    def _send(self, answer: Answer, *headers: tuple[str, str]) -> None:
        if answer.status is None:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in (*headers, *answer.headers, ("Content-Type", answer.kind)):
            self.send_header(name, value)
        if answer.status != 304:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server in a thread of its own."""
    with running(Server()) as server:
        yield server
