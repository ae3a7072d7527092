"""Harvest one shard of items from a GeoCatalog: its archive and, last, the receipt that says what was proven about it.

Runs alone on a Batch node; needs `requests`, `azure-identity`, `msgspec` and `zstandard`. Environment: `GEOCATALOG_URL`
(without /stac), `GEOCATALOG_API_VERSION`, `AZURE_CLIENT_ID` (the node identity's), `SHARD` (JSON, see `Shard`),
`RESULTS_URL` (the container), `HARVEST_PREFIX` and `ITEMS_PREFIX` (names below it) and, where it is not the public
cloud's, `GEOCATALOG_SCOPE`; `READ_TIMEOUT_SECONDS`, 60 by default. Reads the harvest's request budget while it runs;
one line per page on standard error.

Reading order: `harvest` says what happens; `Walk` pages and recovers; `Archive` writes; `Verification` compares;
`Catalog` and `Storage` ask; `Budget` holds back.

Exit codes: 0 done; 2 the environment is incomplete or wrong; 3 the node got no token; 4 GeoCatalog or storage refused
it (401, 403); 5 the answer is none that a STAC catalog gives; 6 out of reach, or unavailable after all attempts.
"""

import email.utils
import hashlib
import io
import itertools
import json
import logging
import os
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote, urldefrag, urlencode, urljoin, urlsplit

import msgspec
import requests
import zstandard
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential

T = TypeVar("T")
NULL = msgspec.Raw(b"null")
Json = dict[str, Any]

CONFIGURATION, NO_TOKEN, REFUSED, UNEXPECTED, UNAVAILABLE = 2, 3, 4, 5, 6
REQUIRED = (
    *("GEOCATALOG_URL", "GEOCATALOG_API_VERSION", "AZURE_CLIENT_ID"),
    *("SHARD", "RESULTS_URL", "HARVEST_PREFIX", "ITEMS_PREFIX"),
)
ADDRESS = re.compile(r"(https://[\w.-]+|http://(localhost|127\.0\.0\.1))(:\d+)?(/[^\s@?#\\]*)?")
STORAGE_SCOPE = "https://storage.azure.com/.default"
JSON_BODY = {"Content-Type": "application/json"}
UNSIGNED = {"sign": "false"}
"""No asset's SAS gets into the archive. The SDKs differ in where a search by POST has it, in the query
(https://learn.microsoft.com/dotnet/api/azure.analytics.planetarycomputer.stacclient.search) or in the body."""
STORAGE_VERSION = {"x-ms-version": "2023-11-03"}
TRANSIENT = {408, 429, 500, 502, 503, 504}
THROTTLED = {429, 503}
TOKEN_GONE = {400, 404, 410}
ATTEMPTS, MALFORMED_ATTEMPTS, LOST_ATTEMPTS, TOKEN_ATTEMPTS = 10, 4, 3, 4
PATIENCE_SECONDS = 900
READ_SECONDS = float(os.environ.get("READ_TIMEOUT_SECONDS", "60"))
CONNECT_AND_READ_SECONDS = (10, READ_SECONDS)
REFRESH_SECONDS, PROGRESS_SECONDS, LEAST_HOLD_SECONDS = 1.5, 5.0, 1.0
SECRET = re.compile(r"(?i:(?<=\bsig=))[^&\s\"'<>\\]+|\beyJ[\w-]{8,}(\.[\w-]*)*")
"""Signature of a SAS and access token: services repeat what they were sent."""
UNKNOWN_RATE = 1.0
"""Calls a second while the harvest's budget cannot be read."""
LISTED_AT_MOST = 1000
SETTLED_AT_MOST = 2000
"""Differences between the two passes that are looked into one by one; more are a fault that this does not mend."""
TIED_AT_MOST = 20_000
RECOVERIES_WITHOUT_PROGRESS = 3
PARTS, BLOCK = 16, 100
"""Files that ids are spread over, so that one is small; items that are compressed together, which fit a cache."""
LATEST = datetime.max.replace(tzinfo=UTC)
EARLIEST = datetime.min.replace(tzinfo=UTC)
UNREADABLE, NO_GEOMETRY, BACKWARDS = "datetime is not RFC 3339", "no geometry", "start is not before end"
REFORMATTED = "reformatted: it came on several lines"
LOOKED_AT = ("datetime", "start_datetime", "end_datetime", "created", "updated", "_msft:ts")
ADVICE = {
    401: "the token of the node identity is not accepted, not even a new one; check the scope",
    404: "it is not there; check the address",
}
OTHERWISE = "this is none of the answers that were expected; check the address and GEOCATALOG_API_VERSION"
READER = "the node identity may not read it; assign it the role GeoCatalog Reader (or GeoCatalog Administrator)"
CONTRIBUTOR = "the node identity may not use it; assign it the role Storage Blob Data Contributor on the account"


class Failed(Exception):
    """The run cannot go on: an exit code, and the sentence to say."""

    def __init__(self, exit_code: int, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.exit_code, self.status = exit_code, status


class Again(Exception):
    """One attempt failed in a way in which another may not."""

    def __init__(self, problem: str, *, status: int = 0, seconds: float = 0, attempts: int = ATTEMPTS) -> None:
        super().__init__(problem)
        self.status, self.seconds, self.attempts = status, seconds, attempts
        self.exit_code = UNEXPECTED if attempts == MALFORMED_ATTEMPTS else UNAVAILABLE


class LostThread(Exception):
    """The service does not say what comes after a page, or says something impossible."""


class Shard(msgspec.Struct, frozen=True):
    """What to harvest: [start, end) of a collection, or its items without any date, or all of it."""

    collection: str
    page_quota: int
    harvest_started: datetime
    name: str
    start: datetime | None = None
    end: datetime | None = None
    undated: bool = False
    page_size: int = 1000
    bbox: list[float] | None = None
    filter: Json | None = None
    verify: Literal["ids", "none"] = "ids"
    max_items: int | None = None


class Dates(msgspec.Struct, gc=False):
    """The properties that are looked at, of whatever type the catalog gave them."""

    datetime: Any = None
    start_datetime: Any = None
    end_datetime: Any = None
    created: Any = None
    updated: Any = None
    stored: Any = msgspec.field(default=None, name="_msft:ts")


class Item(msgspec.Struct, gc=False):
    """As much of an item as is decoded; the rest stays bytes. No `gc`: it would look through a page again and again."""

    id: str
    collection: str | None = None
    geometry: msgspec.Raw = NULL
    properties: Dates | None = None


class Page(msgspec.Struct):
    """A page, its items as views of its bytes."""

    features: list[msgspec.Raw]
    links: list[Json] | None = None


class Entry(msgspec.Struct, gc=False):
    """An item, and what follows from its few decoded members."""

    raw: msgspec.Raw | bytes
    item: Item
    digest: bytes
    moment: datetime | None
    problem: str

    @property
    def rank(self) -> datetime:
        """Its place in an ascending order; null comes last, as in PostgreSQL."""
        return self.moment or LATEST

    @property
    def key(self) -> bytes:
        """Enough of the digest to tell ids apart."""
        return self.digest[:16]

    def changed(self) -> datetime | None:
        """When the catalog last wrote it, as far as it says."""
        dates = self.item.properties or Dates()
        return max(filter(None, (instant(dates.updated), instant(dates.stored))), default=None)

    def appeared(self) -> datetime | None:
        """When it came into the catalog, as far as it says."""
        return instant((self.item.properties or Dates()).created) or self.changed()


class Interval(NamedTuple):
    """Half-open; without ends it is everything, undated items included."""

    start: datetime | None
    end: datetime | None
    undated: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is the whole collection."""
        return self.start is None and self.end is None and not self.undated

    def owned(self, entries: list[Entry], filtered: bool) -> list[Entry]:
        """Those that belong here."""
        return entries if self.whole else [entry for entry in entries if self.owns(entry, filtered)]

    def owns(self, entry: Entry, filtered: bool) -> bool:
        """Whether an item belongs here. Where a date is unreadable, the service's own exact filter decides."""
        if self.whole or (filtered and entry.problem == UNREADABLE):
            return True
        if self.undated or entry.moment is None:
            return self.undated and entry.moment is None
        return (self.start is None or self.start <= entry.moment) and (self.end is None or entry.moment < self.end)


class Place(NamedTuple):
    """Where a walk has come to: the moment, and the id to go on behind; without one, from the moment on."""

    moment: datetime | None
    id: str | None = None


ITEM, PAGE = msgspec.json.Decoder(Item), msgspec.json.Decoder(Page)


def instant(text: object) -> datetime | None:
    """The moment that a text names, in whole microseconds, rounded as PostgreSQL does."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        finer = re.search(r"\.\d{6}(\d+)", text) if len(text) > len("2020-01-01T00:00:00.000000Z") else None
        return moment + timedelta(microseconds=round(float(f"0.{finer[1]}"))) if finer else moment
    except (ValueError, OverflowError):
        return None


def entries_of(raws: Iterable[msgspec.Raw | bytes]) -> list[Entry]:
    """The items in some bytes."""
    return [
        Entry(raw, item, digest_of(item.id), *moment_of(item.properties or Dates()))
        for raw in raws
        for item in [item_of(raw)]
    ]


def item_of(raw: msgspec.Raw | bytes) -> Item:
    """What is decoded of an item."""
    try:
        return ITEM.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        start = one_line(bytes(raw)[:100].decode(errors="replace"))
        raise Failed(UNEXPECTED, f"an item cannot be told apart from others: {error}. It begins {start}") from None


def digest_of(item_id: str) -> bytes:
    """What stands for an id."""
    return hashlib.sha256(item_id.encode()).digest()


def moment_of(dates: Dates) -> tuple[datetime | None, str]:
    """When an item is, by pgstac's rule: its start if start and end are both there, otherwise its datetime."""
    if dates.start_datetime is None or dates.end_datetime is None:
        moment = instant(dates.datetime)
        return moment, UNREADABLE if moment is None and dates.datetime is not None else ""
    start, end = instant(dates.start_datetime), instant(dates.end_datetime)
    if start is None or end is None:
        return None, UNREADABLE
    return start, "" if start < end else BACKWARDS


def rfc3339(moment: datetime | None) -> str | None:
    """As text, with microseconds only where there are any."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z" if moment else None


UNDATED: Json = {"op": "isNull", "args": [{"property": "datetime"}]}


def compare(operator: str, name: str, value: str | datetime) -> Json:
    """A comparison of a property with a text or a moment."""
    operand = {"timestamp": rfc3339(value)} if isinstance(value, datetime) else value
    return {"op": operator, "args": [{"property": name}, operand]}


def joined(operator: Literal["and", "or"], parts: list[Json]) -> Json:
    """Some conditions as one."""
    return parts[0] if len(parts) == 1 else {"op": operator, "args": parts}


def conditions(interval: Interval, place: Place | None, backwards: bool) -> list[Json]:
    """What is true of the items of an interval, from a place on."""
    parts = [UNDATED] if interval.undated else []
    if interval.start:
        parts.append(compare(">=", "datetime", interval.start))
    if interval.end:
        parts.append(compare("<", "datetime", interval.end))
    return [*parts, beyond(place, interval.whole, backwards)] if place else parts


def beyond(place: Place, whole: bool, backwards: bool) -> Json:
    """What is true of the items that a walk has not come to; undated ones are last, backwards first."""
    onward = "<" if backwards else ">"
    undated = place.moment is None
    if place.id is None:
        parts = [UNDATED if place.moment is None else compare(f"{onward}=", "datetime", place.moment)]
    else:
        tie = UNDATED if place.moment is None else compare("=", "datetime", place.moment)
        parts = [joined("and", [tie, compare(onward, "id", place.id)])]
        parts += [] if place.moment is None else [compare(onward, "datetime", place.moment)]
    if whole and undated == backwards:
        parts.append({"op": "not", "args": [UNDATED]} if backwards else UNDATED)
    return joined("or", parts)


@dataclass(frozen=True)
class Call:
    """A request that can be sent again as it is."""

    method: str
    url: str
    body: bytes = b""
    file: Path | None = None
    """What is sent instead of the body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: tuple[int, ...] = (200,)
    continued: bool = False
    """Whether it goes on from a page, by what that page gave as its next link."""


class Identity:
    """The node's identity; azure-identity keeps its tokens and replaces them before they expire."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.renew()

    def renew(self) -> None:
        """Forget all tokens, and that the identity endpoint throttled us: MSAL remembers both."""
        self.credential = DefaultAzureCredential(read_timeout=READ_SECONDS)

    def token(self, scope: str) -> str:
        """A valid token; tried again because identity endpoints answer 429 when a whole node asks at once."""
        for attempt in range(1, TOKEN_ATTEMPTS + 1):
            try:
                return str(self.credential.get_token(scope).token)
            except ClientAuthenticationError as error:
                problem = one_line(str(error))
            time.sleep(backoff(attempt))
            self.renew()
        advice = f"check that the pool has the user-assigned identity with client id {self.client_id}"
        raise Failed(NO_TOKEN, f"no token for {scope}: {advice}. azure-identity said: {problem}")


class Tokens(requests.auth.AuthBase):
    """Signs requests for one scope."""

    def __init__(self, identity: Identity, scope: str) -> None:
        self.identity, self.scope = identity, scope

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add a valid token."""
        request.headers["Authorization"] = f"Bearer {self.identity.token(self.scope)}"
        return request


class Service:
    """Asks until there is an answer that can be read, or a reason to give up."""

    forbidden = ""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.session = requests.Session()
        self.session.auth = tokens
        self.renewed = False
        self.deadline = time.monotonic() + PATIENCE_SECONDS

    def before_call(self) -> None:
        """Wait until a call may be made."""

    def heard(self, status: int, seconds: float) -> None:
        """Take note of an answer."""

    def ask(self, call: Call, read: Callable[[requests.Response], T]) -> T:
        """What `read` makes of the first answer that it can read. urllib3's Retry covers neither that nor a deadline.

        Raises:
            LostThread: the call continues from a page, and the service does not know how any more.
        """
        for attempt in itertools.count(1):
            try:
                return self.attempt(call, read)
            except Again as again:
                problem, wait = again, max(backoff(attempt), again.seconds)
            if call.continued and problem.status == 500 and attempt >= LOST_ATTEMPTS:
                raise LostThread(str(problem))  # pgstac answers so when the item that its token names is gone
            if attempt >= problem.attempts or time.monotonic() + wait > self.deadline:
                break
            note(f"attempt {attempt} of {problem.attempts}, the next in {wait:.1f} s: {problem}")
            time.sleep(wait)
        tried = f"{call.method} {call.url} failed after {attempt} of {problem.attempts} attempts"
        advice = "check the address, the network and REQUESTS_CA_BUNDLE, or run it again later"
        raise Failed(problem.exit_code, f"{tried}; {advice}: {problem}")

    def attempt(self, call: Call, read: Callable[[requests.Response], T]) -> T:
        """Send it once."""
        self.before_call()
        answer = self.answer(call)
        if answer.status_code in call.accepted:
            try:
                result = read(answer)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                problem = f"the answer is cut short or not what was expected ({error}): {one_line(answer.text[:500])}"
                raise Again(problem, attempts=MALFORMED_ATTEMPTS) from None
            self.renewed, self.deadline = False, time.monotonic() + PATIENCE_SECONDS
            self.heard(answer.status_code, 0)
            return result
        raise self.refusal(call, answer)

    def answer(self, call: Call) -> requests.Response:
        """What the service answers, whatever that is."""
        body = call.file.open("rb") if call.file else None
        try:
            return self.session.request(
                call.method,
                call.url,
                data=body or call.body,
                headers=dict(call.headers),
                timeout=CONNECT_AND_READ_SECONDS,
                allow_redirects=False,
            )
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            problem = one_line(str(getattr(error.args[0], "reason", error)) if error.args else repr(error))
            raise Again(problem, attempts=1 if "CERTIFICATE_VERIFY_FAILED" in problem else ATTEMPTS) from None
        finally:
            if body:
                body.close()

    def refusal(self, call: Call, answer: requests.Response) -> Exception:
        """What an answer means that was not asked for; a 401 renews the token once."""
        status = answer.status_code
        if status in TRANSIENT or (status == 401 and not self.renewed):
            if status == 401:
                self.tokens.identity.renew()
                self.renewed = True
            seconds = retry_after(answer.headers)
            self.heard(status, seconds)
            return Again(said(answer), status=status, seconds=seconds)
        if call.continued and status in TOKEN_GONE:
            return LostThread(said(answer))
        advice = self.forbidden if status == 403 else ADVICE.get(status, OTHERWISE)
        sentence = f"{call.method} {call.url}: {advice}. It answered {said(answer)}"
        return Failed(REFUSED if status in (401, 403) else UNEXPECTED, sentence, status)


class Storage(Service):
    """The results container: https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api."""

    forbidden = CONTRIBUTOR

    def __init__(self, tokens: Tokens, root: str) -> None:
        super().__init__(tokens)
        self.root = root

    def put(self, name: str, body: Json | Path) -> None:
        """Write a file or a JSON document in one piece, so that it is there as a whole or not at all."""
        content, file = (b"", body) if isinstance(body, Path) else (json.dumps(body).encode(), None)
        kind = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/zstd" if file else "application/json"}
        call = Call("PUT", f"{self.root}/{quote(name)}", content, file, {**STORAGE_VERSION, **kind}, accepted=(201,))
        self.ask(call, lambda _: None)

    def changed(self, name: str, etag: str) -> tuple[Json | None, str]:
        """A JSON object and its ETag, None while it is the same as before or not there.

        Its `age_seconds` are by the storage's clock, since those of nodes may differ.
        """
        headers = {**STORAGE_VERSION, **({"If-None-Match": etag} if etag else {})}
        call = Call("GET", f"{self.root}/{quote(name)}", headers=headers, accepted=(200, 304, 404))

        def read(answer: requests.Response) -> tuple[Json | None, str]:
            if answer.status_code != 200:
                return None, etag
            now, written = (http_date(answer.headers.get(header, "")) for header in ("Date", "Last-Modified"))
            age = (now - written).total_seconds() if now and written else 0.0
            return {**answer.json(), "age_seconds": age}, answer.headers["ETag"]

        return self.ask(call, read)


class Budget:
    """Paces this task's calls: its share of the harvest's, less after a 429 or 503, none while all have to wait."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.share, self.ease = UNKNOWN_RATE, 1.0
        self.last = time.monotonic() - random.uniform(0, 1)  # noqa: S311  # tasks that start together spread
        self.held_until = self.announced = 0.0

    @property
    def gap(self) -> float:
        """Seconds between two calls."""
        return 1 / (self.share * self.ease)

    def wait_for_turn(self) -> None:
        """Return when the next call may be made; a change of the budget is heeded while it waits."""
        with self.changed:
            while (left := max(self.last + self.gap, self.held_until) - time.monotonic()) > 0:
                self.changed.wait(left)
            self.last = max(self.last + self.gap, time.monotonic() - self.gap)

    def set_share(self, requests_per_second: float, running: int) -> None:
        """Take over what the flow says."""
        with self.changed:
            self.share = max(1e-3, requests_per_second / max(1, running))
            self.changed.notify_all()

    def hold(self, seconds: float) -> None:
        """Make no call for some seconds; tasks that were held together go on one after the other."""
        with self.changed:
            spread = random.uniform(0, min(1.0, self.gap))  # noqa: S311
            self.held_until = max(self.held_until, time.monotonic() + min(seconds, PATIENCE_SECONDS) + spread)

    def slow_down(self, seconds: float) -> None:
        """The service is overloaded: halve the pace, and hold everybody as long as it wishes, or for a moment."""
        seconds = max(seconds, LEAST_HOLD_SECONDS)
        with self.changed:
            self.ease = max(self.ease / 2, 1 / 16)
            self.announced = max(self.announced, time.monotonic() + seconds)
        self.hold(seconds)

    def recover(self) -> None:
        """A call went well."""
        with self.changed:
            self.ease = min(1.0, self.ease * 1.25)


class Control(threading.Thread):
    """Keeps the budget up to date and tells how far the task is, in a thread of its own."""

    def __init__(self, storage: Storage, budget: Budget, prefix: str, name: str) -> None:
        super().__init__(daemon=True)
        self.storage, self.budget = storage, budget
        self.prefix, self.progress_blob = f"{prefix}/control", f"{prefix}/control/progress/{name}.json"
        self.etags: dict[str, str] = {}
        self.known = 0.0
        self.progress: Json = {}
        self.told, self.told_at = self.progress, time.monotonic() - PROGRESS_SECONDS
        self.ended, self.wake = False, threading.Event()

    def run(self) -> None:
        """Refresh every second or two, at once where others have to be told to wait."""
        while not self.ended:
            self.wake.wait(REFRESH_SECONDS)
            self.wake.clear()
            try:
                self.refresh()
            except Failed as failed:
                note(f"the budget stays as it was: {failed}")

    def finish(self) -> None:
        """Tell once more how far the task is, and stop."""
        self.ended, self.told_at = True, time.monotonic() - PROGRESS_SECONDS
        self.wake.set()
        self.join()

    def refresh(self) -> None:
        """Exchange news with the flow and the other tasks."""
        if self.budget.announced > self.known:
            self.known = self.budget.announced
            self.storage.put(f"{self.prefix}/backoff.json", {"seconds": self.known - time.monotonic()})
        if budget := self.changed("budget.json"):
            self.budget.set_share(float(budget["requests_per_second"]), int(budget["running"]))
        if backoff := self.changed("backoff.json"):
            seconds = float(backoff.get("seconds", 0)) - backoff["age_seconds"]
            self.known = max(self.known, time.monotonic() + seconds)
            self.budget.hold(seconds)
        if self.progress is not self.told and time.monotonic() - self.told_at >= PROGRESS_SECONDS:
            self.told, self.told_at = self.progress, time.monotonic()
            self.storage.put(self.progress_blob, self.told)

    def changed(self, name: str) -> Json | None:
        """A control file, if it is another one than the last time."""
        found, self.etags[name] = self.storage.changed(f"{self.prefix}/{name}", self.etags.get(name, ""))
        return found


class Catalog(Service):
    """The STAC API: https://learn.microsoft.com/rest/api/planetarycomputer."""

    forbidden = READER

    def __init__(self, tokens: Tokens, root: str, api_version: str, budget: Budget, wake: threading.Event) -> None:
        super().__init__(tokens)
        self.root, self.api_version, self.budget, self.wake = f"{root}/stac", api_version, budget, wake
        self.calls = self.throttled = 0
        self.sorts = self.filters = self.picks_fields = True
        self.asked: datetime | None = None
        """When it was first asked, by its own clock."""

    def before_call(self) -> None:
        """Wait until the budget allows a call."""
        self.budget.wait_for_turn()
        self.calls += 1

    def heard(self, status: int, seconds: float) -> None:
        """Slow down or recover."""
        if status in THROTTLED:
            self.throttled += 1
            self.budget.slow_down(seconds)
            self.wake.set()
        elif status in (200, 404):
            self.budget.recover()

    def url(self, path: str) -> str:
        """An address with what every call needs."""
        return with_parameters(f"{self.root}{path}", {"api-version": self.api_version, **UNSIGNED})

    def learn_dialect(self) -> None:
        """Learn from the conformance classes what a search can ask for, and what time it is there."""
        call = Call("GET", self.url("/conformance"))
        classes, date = self.ask(call, lambda answer: (answer.json()["conformsTo"], answer.headers.get("Date", "")))
        self.asked = http_date(date)
        text = "\n".join(map(str, classes))
        self.sorts, self.picks_fields = "item-search#sort" in text, "item-search#fields" in text
        self.filters = "item-search#filter" in text and "cql2" in text

    def simplify(self, shard: Shard, refused: Failed) -> None:
        """Ask for less after a 400: conformance classes promise what a service does not always keep."""
        if self.sorts:
            self.sorts = False
        elif self.filters and shard.filter is None:
            self.filters = False
        else:
            raise refused

    def search(
        self, shard: Shard, interval: Interval, place: Place | None, *, backwards: bool = False, ids_only: bool = False
    ) -> Call:
        """The first page of an interval, from a place on."""
        query: Json = {"collections": [shard.collection], "limit": shard.page_size, **UNSIGNED}
        if shard.bbox:
            query["bbox"] = shard.bbox
        if self.sorts:
            query["sortby"] = [
                {"field": name, "direction": "desc" if backwards else "asc"} for name in ("datetime", "id")
            ]
        if ids_only:
            query["fields"] = {"include": ["id", "collection", *(f"properties.{name}" for name in LOOKED_AT)]}
        if self.filters:
            if parts := conditions(interval, place, backwards) + ([shard.filter] if shard.filter else []):
                query |= {"filter": joined("and", parts), "filter-lang": "cql2-json"}
        elif shard.filter:
            raise Failed(UNEXPECTED, f"the STAC API at {self.root} does not filter by CQL2, but a filter was asked for")
        elif (moments := closed_interval(interval, place, backwards)) != "../..":
            query["datetime"] = moments
        return Call("POST", self.url("/search"), msgspec.json.encode(query), headers=JSON_BODY)

    def page(self, call: Call) -> Page:
        """The page that a call asks for."""
        return self.ask(call, lambda answer: PAGE.decode(answer.content))

    def item(self, shard: Shard, item_id: str) -> Entry | None:
        """One item as the catalog has it now."""
        path = f"/collections/{quote(shard.collection, safe='')}/items/{quote(item_id, safe='')}"
        body = self.ask(
            Call("GET", self.url(path), accepted=(200, 404)),
            lambda answer: (
                answer.content.strip() if answer.status_code == 200 and ITEM.decode(answer.content) else None
            ),
        )
        return None if body is None else entries_of([body])[0]

    def following(self, call: Call, page: Page) -> Call | None:
        """The call for the next page, if there is one."""
        link = next((link for link in page.links or [] if link.get("rel") == "next"), None)
        try:
            return self.linked(call, link) if link else None
        except (ValueError, TypeError) as error:
            raise Failed(UNEXPECTED, f"{call.url} answered with a next link that is none of STAC's: {error}") from None

    def linked(self, call: Call, link: Json) -> Call:
        """The call that a link stands for; a token goes nowhere but to the server that it is for."""
        url = urldefrag(urljoin(call.url, str(link.get("href", "")))).url
        if origin(url) != origin(call.url):
            raise Failed(UNEXPECTED, f"the next link of {call.url} leads to another server, {url}; it is not followed")
        url = with_parameters(url, {"api-version": self.api_version, **UNSIGNED})
        if str(link.get("method", "GET")).upper() != "POST":
            return Call("GET", url, continued=True)
        sent, body = msgspec.json.decode(call.body or b"{}"), link.get("body") or {}
        # A body that lacks the collections would search everything, so it can only be meant to be merged.
        merged = {**sent, **body} if link.get("merge") or "collections" not in body else body
        return Call("POST", url, msgspec.json.encode(merged | UNSIGNED), headers=JSON_BODY, continued=True)


def closed_interval(interval: Interval, place: Place | None, backwards: bool) -> str:
    """The `datetime` parameter, closed on both sides, that holds an interval from a place on."""
    start, end = interval.start, interval.end
    if place and place.moment:
        start, end = (start, place.moment) if backwards else (place.moment, end)
    return f"{rfc3339(start) or '..'}/{rfc3339(end) or '..'}"


def with_parameters(url: str, parameters: Mapping[str, Any]) -> str:
    """An address with the parameters that it lacks."""
    missing = {name: value for name, value in parameters.items() if not re.search(rf"[?&]{re.escape(name)}=", url)}
    return f"{url}{'&' if '?' in url else '?'}{urlencode(missing)}" if missing else url


def origin(url: str) -> tuple[str, str]:
    """Scheme and authority. Compared as text, so that user names and odd host spellings never match."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower().removesuffix({"https": ":443", "http": ":80"}.get(parts.scheme, ":"))


class Walk:
    """Pages through an interval in one direction, each item once as far as the service allows.

    The next page is downloaded while this one is worked on. Where the service loses the thread, the walk asks again
    from the last moment on; where it sorts nothing, from the beginning (`starts` tells). When no next link is left, one
    more call looks behind the last item.
    """

    def __init__(
        self, catalog: Catalog, shard: Shard, interval: Interval, *, backwards: bool = False, ids_only: bool = False
    ) -> None:
        self.catalog, self.shard, self.interval = catalog, shard, interval
        self.backwards, self.ids_only = backwards, ids_only
        self.pages = self.starts = self.fresh = 0
        self.in_order, self.more = True, False
        self.place: Place | None = None
        self.tied: set[bytes] = set()
        self.overlap: datetime | None = None
        self.asked: set[bytes] = set()
        self.seen: set[bytes] = set()
        self.fresh_at_recovery, self.stuck = -1, 0
        self.went_back_at: Place | None = None

    def __iter__(self) -> Iterator[list[Entry]]:
        """The pages' items, empty pages included."""
        call: Call | None = self.search(None)
        with ThreadPoolExecutor(1) as ahead:
            while call:
                fresh = self.fresh
                try:
                    for page in self.follow(call, ahead):
                        yield self.accept(page)
                except LostThread as lost:
                    call = self.recover(str(lost))
                except Failed as failed:
                    if failed.status != 400 or self.pages or self.ids_only:
                        raise
                    self.catalog.simplify(self.shard, failed)
                    call = self.search(None)
                else:
                    call = self.probe() if self.fresh > fresh else None

    def search(self, place: Place | None) -> Call:
        """The call for the page from a place on, or for the first one."""
        return self.catalog.search(self.shard, self.interval, place, backwards=self.backwards, ids_only=self.ids_only)

    def follow(self, call: Call, ahead: ThreadPoolExecutor) -> Iterator[Page]:
        """Pages, by their next links."""
        following: Call | None = call
        self.asked.add(fingerprint(call))
        download = ahead.submit(self.catalog.page, call)
        while following:
            page = download.result()
            following = self.catalog.following(following, page)
            self.more = following is not None
            self.pages += 1
            circle = following is not None and fingerprint(following) in self.asked
            if following and not circle:
                self.asked.add(fingerprint(following))
                # The last page of the quota is most likely the last one that is needed.
                hasty = self.ids_only or self.pages != self.shard.page_quota
                download = ahead.submit(self.catalog.page, following) if hasty else download
            yield page
            if circle:
                raise LostThread("a next link came before")
            if following and not hasty:
                download = ahead.submit(self.catalog.page, following)

    def accept(self, page: Page) -> list[Entry]:
        """The items of a page that are new, after a check that it lies where it should."""
        expected = (self.shard.collection, None)
        entries = [entry for entry in entries_of(page.features) if entry.item.collection in expected]
        if not entries:
            return []
        content = hashlib.sha256(b"".join(entry.digest for entry in entries)).digest()
        if content in self.seen:
            raise LostThread("a page came before")
        self.seen.add(content)
        placed = [entry for entry in entries if entry.problem != UNREADABLE]
        self.check_order(placed)
        if self.overlap is not None:
            entries = [entry for entry in entries if entry.rank != self.overlap or entry.key not in self.tied]
        if placed:
            self.advance(placed)
        self.fresh += len(entries)
        return entries

    def check_order(self, entries: list[Entry]) -> None:
        """Note whether the service sorts, and stop at a page that goes back once."""
        ranks = [entry.moment or LATEST for entry in entries]
        self.in_order = self.in_order and self.catalog.sorts and self.ordered(ranks)
        if not self.in_order or not self.place or self.ordered([self.place.moment or LATEST, *ranks[:1]]):
            return
        if self.went_back_at != self.place:
            self.went_back_at = self.place
            raise LostThread("a page goes back behind the one before")
        self.in_order = False

    def ordered(self, ranks: list[datetime]) -> bool:
        """Whether they are in the order of this walk."""
        return ranks == sorted(ranks, reverse=self.backwards)

    def advance(self, entries: list[Entry]) -> None:
        """Remember where the walk is, and what it saw there."""
        last = entries[-1]
        if self.place is None or (self.place.moment or LATEST) != last.rank:
            self.tied, self.overlap = set(), None
        self.place = Place(last.moment, last.item.id)
        tied = itertools.takewhile(lambda entry: entry.rank == last.rank, reversed(entries))
        self.tied.update(entry.key for entry in itertools.islice(tied, max(0, TIED_AT_MOST - len(self.tied))))

    def recover(self, reason: str) -> Call:
        """The call to go on with when the thread is lost.

        Raises:
            Failed: nothing new has come since several such calls.
        """
        self.stuck = self.stuck + 1 if self.fresh == self.fresh_at_recovery else 0
        self.fresh_at_recovery = self.fresh
        if self.stuck >= RECOVERIES_WITHOUT_PROGRESS:
            raise Failed(UNEXPECTED, f"the pages of {self.shard.collection} lead nowhere, again and again: {reason}")
        if self.in_order and self.place:
            note(f"{reason}; asking again from {rfc3339(self.place.moment) or 'the undated items'} on")
            return self.from_here(Place(self.place.moment))
        note(f"{reason}; starting over")
        self.starts += 1
        self.fresh_at_recovery = -1
        if self.starts >= RECOVERIES_WITHOUT_PROGRESS:
            raise Failed(UNEXPECTED, f"{self.shard.collection} was started {self.starts} times in vain: {reason}")
        self.place, self.tied, self.overlap = None, set(), None
        self.seen.clear()
        self.asked.clear()
        return self.search(None)

    def probe(self) -> Call | None:
        """The call that finds what lies behind the last item, if one can tell."""
        if not self.in_order or not self.place or not (self.catalog.filters or self.place.moment):
            return None
        return self.from_here(self.place if self.catalog.filters else Place(self.place.moment))

    def from_here(self, place: Place) -> Call:
        """Go on from a place; items of its moment that came already are passed over."""
        self.overlap = place.moment or LATEST
        self.seen.clear()
        self.asked.clear()
        return self.search(place)


def fingerprint(call: Call) -> bytes:
    """What tells two calls apart."""
    return hashlib.sha256(f"{call.method} {call.url} ".encode() + call.body).digest()


class Ids:
    """Digests of ids on disk, in parts small enough to be compared one by one: a million take no memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.files = [(folder / f"{part:02}").open("w+b") for part in range(PARTS)]

    def add(self, entries: Iterable[Entry]) -> None:
        """Write them down."""
        for entry in entries:
            self.files[entry.digest[0] % PARTS].write(entry.key)

    def parts(self) -> Iterator[list[bytes]]:
        """All of them, part by part."""
        for file in self.files:
            file.seek(0)
            content = file.read()
            yield [content[i : i + 16] for i in range(0, len(content), 16)]

    def repeated(self) -> set[bytes]:
        """Those that were added more than once."""
        found: set[bytes] = set()
        for part in self.parts():
            found.update(key for key, times in Counter(part).items() if times > 1)
        return found

    def difference(self, other: "Ids") -> tuple[set[bytes], set[bytes]]:
        """What only the other holds, and what only this one holds."""
        missing: set[bytes] = set()
        extra: set[bytes] = set()
        for own, others in zip(map(set, self.parts()), map(set, other.parts()), strict=True):
            missing |= others - own
            extra |= own - others
        return missing, extra

    def close(self) -> None:
        """Let go of the files."""
        for file in self.files:
            file.close()


class Archive:
    """The items as they came, one a line, in one zstd frame; and what the receipt says of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.file = self.folder / "items.ndjson.zst.part"
        self.ids = Ids(self.folder / "ids")
        # Items are so alike that higher levels take longer and save little.
        self.zstd = zstandard.ZstdCompressor(level=1).stream_writer(self.file.open("wb"))
        self.count = self.hash = self.dirty_count = 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.dirty: list[Json] = []

    def add(self, entries: Iterable[Entry]) -> None:
        """Count items and write them."""
        some = iter(entries)
        while block := list(itertools.islice(some, BLOCK)):
            self.count += len(block)
            self.hash += sum(map(int.from_bytes, [entry.digest for entry in block]))
            self.ids.add(block)
            if moments := [entry.moment for entry in block if entry.moment]:
                self.first, self.last = min(self.first or LATEST, *moments), max(self.last or EARLIEST, *moments)
            self.zstd.write(self.lines(block) + b"\n")

    def lines(self, block: list[Entry]) -> bytes:
        """The bytes of items; where any is dirty, one by one."""
        raws = [entry.raw for entry in block]
        joined = b"".join(raws)  # to search it once costs a tenth of what searching each takes
        broken = b"\n" in joined or b"\r" in joined
        if broken or any(entry.problem or entry.item.geometry == NULL for entry in block):
            return b"\n".join([self.line(entry) for entry in block])
        return b"\n".join(raws)

    def line(self, entry: Entry) -> bytes:
        """An item's bytes, after a look for problems; only what came on several lines is put on one."""
        line, problems = bytes(entry.raw), [entry.problem] if entry.problem else []
        if entry.item.geometry == NULL:
            problems.append(NO_GEOMETRY)
        if b"\n" in line or b"\r" in line:
            line = re.sub(rb"[ \t]*[\r\n][ \t\r\n]*", b"", line)  # never inside a string, where JSON has them escaped
            problems.append(REFORMATTED)
        if problems:
            self.dirty_count += 1
            if len(self.dirty) < LISTED_AT_MOST:
                self.dirty.append({"id": entry.item.id, "problem": "; ".join(problems)})
        return line

    def entries(self) -> Iterator[Entry]:
        """Read back what was written so far."""
        self.zstd.flush(zstandard.FLUSH_BLOCK)
        with self.file.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            for line in io.BufferedReader(reader):
                yield from entries_of([line[:-1]])

    def newest_only(self) -> "Archive":
        """The archive with each id once: the version that the catalog changed last, or else that came last."""
        repeated = self.ids.repeated()
        if not repeated:
            return self
        newest: dict[bytes, tuple[datetime, int]] = {}
        for number, entry in enumerate(self.entries()):
            if entry.key in repeated:
                version = entry.changed() or EARLIEST, number
                newest[entry.key] = max(version, newest.get(entry.key, version))
        clean = Archive(self.folder.parent)
        kept = (e for n, e in enumerate(self.entries()) if e.key not in repeated or newest[e.key][1] == n)
        clean.add(kept)
        self.close()
        return clean

    def names(self, keys: set[bytes]) -> dict[bytes, str]:
        """The ids behind some digests."""
        return {entry.key: entry.item.id for entry in self.entries() if entry.key in keys} if keys else {}

    def close(self) -> None:
        """Finish the file."""
        self.zstd.close()  # type: ignore[no-untyped-call]  # its stubs leave it out
        self.ids.close()


class Verification:
    """Compares the archive with a second look at the covered interval, in reverse order and for ids only."""

    def __init__(self, catalog: Catalog, shard: Shard, covered: Interval, archive: Archive) -> None:
        self.catalog, self.shard, self.covered, self.archive = catalog, shard, covered, archive
        self.began = catalog.asked or shard.harvest_started
        """By the catalog's clock, or by the flow's where that is not known: what the catalog wrote after it is news."""
        self.arrived: dict[bytes, str] = {}
        self.deleted: dict[bytes, str] = {}
        self.settled: set[bytes] = set()
        self.unsettled: dict[bytes, str] = {}
        self.mended = False
        self.problem = ""

    def run(self) -> None:
        """Compare, settle what differs, and look once more where that leaves a doubt."""
        if self.shard.verify == "none":
            self.problem = "no verification was asked for"
        elif not self.catalog.sorts or not self.catalog.picks_fields:
            self.problem = "the service does not offer both sortby and fields"
        else:
            try:
                self.unsettled = self.compare()
                if self.unsettled or self.mended:
                    self.unsettled = self.compare()
            except Failed as failed:
                if failed.status != 400:
                    raise
                self.problem = f"the service refused sortby or fields: {failed}"
        if self.unsettled:
            self.problem = self.problem or "the two looks differ in ids that cannot be explained"

    def compare(self) -> dict[bytes, str]:
        """Look a second time; the ids that differ and are not explained."""
        with tempfile.TemporaryDirectory(dir=self.archive.folder) as folder:
            second, listing = Ids(Path(folder) / "ids"), Path(folder) / "listing"
            self.list_ids(second, listing)
            missing, extra = (keys - self.settled for keys in self.archive.ids.difference(second))
            second.close()
            missed = names_in(listing, missing)
        kept = self.archive.names(extra)
        if len(missing) + len(extra) > SETTLED_AT_MOST:
            return missed | kept
        left = {key: name for key, name in missed.items() if not self.explains_missing(key, name)}
        return left | {key: name for key, name in kept.items() if not self.explains_extra(key, name)}

    def list_ids(self, second: Ids, listing: Path) -> None:
        """Write down what the second look finds; of a part cut short by `max_items`, the same part."""
        limited = self.archive.count == self.shard.max_items
        walk = Walk(self.catalog, self.shard, self.covered, backwards=not limited, ids_only=True)
        found = 0
        with listing.open("wb") as lines:
            for page in walk:
                if walk.starts:
                    raise Failed(UNEXPECTED, "the second look was not given in order", 400)
                owned = self.covered.owned(page, self.catalog.filters)
                if limited:
                    owned = owned[: self.archive.count - found]
                found += len(owned)
                second.add(owned)
                lines.write(msgspec.json.encode([entry.item.id for entry in owned]) + b"\n")
                if limited and found == self.archive.count:
                    break
        if not walk.in_order:
            self.problem = "the service does not sort as it was asked to"

    def explains_missing(self, key: bytes, item_id: str) -> bool:
        """Whether an item that only the second look found came or went meanwhile; one that was missed is archived."""
        entry = self.catalog.item(self.shard, item_id)
        if entry is None:
            self.deleted[key] = item_id
        elif (entry.appeared() or EARLIEST) >= self.began:
            self.arrived[key] = item_id
        elif self.covered.owns(entry, self.catalog.filters):
            note(f"the first look missed {item_id}; it is archived now")
            self.archive.add([entry])
            self.mended = True
            return True
        else:
            return False
        self.settled.add(key)
        return True

    def explains_extra(self, key: bytes, item_id: str) -> bool:
        """Whether an item that the second look did not find is gone, or was changed meanwhile."""
        entry = self.catalog.item(self.shard, item_id)
        if entry is None:
            self.deleted[key] = item_id
        elif self.covered.owns(entry, self.catalog.filters):
            changed = entry.changed()
            if not changed or changed < self.began:
                return False
        self.settled.add(key)
        return True

    def summary(self) -> Json:
        """What the receipt says of it."""
        counted = {"arrived": self.arrived, "deleted": self.deleted, "unsettled": self.unsettled}
        listed = {name: sorted(ids.values())[:LISTED_AT_MOST] for name, ids in counted.items()}
        counts = {f"{name}_count": len(ids) for name, ids in counted.items()}
        return {**listed, **counts, "reason": self.problem or None}


def names_in(listing: Path, keys: set[bytes]) -> dict[bytes, str]:
    """The ids behind some digests, from a list of all ids."""
    with listing.open("rb") as pages:
        ids = (item_id for page in pages for item_id in msgspec.json.decode(page))
        return {key: item_id for item_id in ids if (key := digest_of(item_id)[:16]) in keys} if keys else {}


class Harvest:
    """The first look: archives what the shard owns, up to its quota of pages."""

    def __init__(self, catalog: Catalog, shard: Shard, folder: Path, control: Control) -> None:
        self.catalog, self.shard, self.folder, self.control = catalog, shard, folder, control
        self.interval = Interval(shard.start, shard.end, shard.undated)
        self.walk = Walk(catalog, shard, self.interval)
        self.archive = Archive(folder)
        self.cut: datetime | None = None
        self.duplicates = 0

    def run(self) -> None:
        """Page to the end, or to where the quota or the wish for so many items ends it."""
        starts = 0
        for page in self.walk:
            if self.walk.starts > starts:
                starts = self.walk.starts
                self.archive.close()
                self.archive = Archive(self.folder)
            owned = self.interval.owned(page, self.catalog.filters)
            self.cut = self.where_to_cut(owned)
            if self.cut:
                owned = [entry for entry in owned if entry.moment and entry.moment < self.cut]
            if self.shard.max_items is not None:
                owned = owned[: self.shard.max_items - self.archive.count]
            self.archive.add(owned)
            self.tell(len(page))
            if self.cut or self.archive.count == self.shard.max_items:
                break
        found = self.archive.count
        self.archive = self.archive.newest_only()
        self.duplicates = found - self.archive.count

    def where_to_cut(self, owned: list[Entry]) -> datetime | None:
        """The last moment, once the quota is reached; it must leave nothing written behind it, and something before."""
        if self.walk.pages < self.shard.page_quota or not (self.walk.more and self.walk.in_order and owned):
            return None
        moments = [entry.moment for entry in owned]
        before, last = self.archive.last or moments[0], moments[-1]
        return last if last and before and None not in moments and last > before else None

    def tell(self, items: int) -> None:
        """Say how far it is."""
        note(f"page {self.walk.pages}: {items} items, {self.archive.count} archived")
        self.control.progress = {"pages": self.walk.pages, "items": self.archive.count}

    @property
    def covered(self) -> Interval:
        """What was looked at in full."""
        return Interval(self.interval.start, self.cut, False) if self.cut else self.interval


def receipt(harvest: Harvest, verification: Verification) -> Json:
    """What is known of the shard."""
    archive, shard, covered, catalog = harvest.archive, harvest.shard, harvest.covered, harvest.catalog
    return {
        "name": shard.name,
        "collection": shard.collection,
        "start": rfc3339(covered.start),
        "end": rfc3339(covered.end),
        "undated": shard.undated,
        "remainder": {"start": rfc3339(harvest.cut), "end": rfc3339(shard.end)} if harvest.cut else None,
        "count": archive.count,
        "ids_hash": f"{archive.hash % 2**256:064x}",
        "min_datetime": rfc3339(archive.first),
        "max_datetime": rfc3339(archive.last),
        "pages": harvest.walk.pages,
        "throttled": catalog.throttled,
        "duplicates": harvest.duplicates,
        "dirty": archive.dirty,
        "dirty_count": archive.dirty_count,
        "verified": not verification.problem,
        "verification": verification.summary(),
        "asked": rfc3339(catalog.asked),
        "calls": catalog.calls,
        "bytes": archive.file.stat().st_size,
    }


def harvest(shard: Shard, catalog: Catalog, storage: Storage, control: Control, blob: str) -> None:
    """Archive the shard, compare it with a second look, and publish the archive before its receipt."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        catalog.learn_dialect()
        first = Harvest(catalog, shard, Path(folder), control)
        first.run()
        verification = Verification(catalog, shard, first.covered, first.archive)
        verification.run()
        archive = first.archive
        archive.close()
        control.finish()
        storage.put(f"{blob}.ndjson.zst", archive.file)
        document = receipt(first, verification)
        storage.put(f"{blob}.receipt.json", document)
    note(f"done: {archive.count} items, verified: {document['verified']}")


def backoff(attempt: int) -> float:
    """Seconds to wait after that attempt: 250 ms, doubling to 90 s, half of it at random."""
    longest = min(90.0, 0.25 * 2**attempt)
    return random.uniform(longest / 2, longest)  # noqa: S311  # it spreads load and guards nothing


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that Retry-After asks for: a number, or a date by the server's clock (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdecimal():
        return float(value)
    moment, now = http_date(value), http_date(headers.get("Date", "")) or datetime.now(UTC)
    return (moment - now).total_seconds() if moment else 0.0


def http_date(value: str) -> datetime | None:
    """The moment that a header names."""
    try:
        return email.utils.parsedate_to_datetime(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def said(answer: requests.Response) -> str:
    """Status and body for a message; a token that the server repeats is left out."""
    token = answer.request.headers["Authorization"].removeprefix("Bearer ")
    return f"{answer.status_code} {one_line(answer.text.replace(token, '(token)'))}"


def one_line(text: str) -> str:
    """Text for a message."""
    return " ".join(text.split())[:500]


def note(sentence: str) -> None:
    """Tell how it goes, on standard error."""
    print(f"harvest_items: {SECRET.sub('(secret)', sentence)}", file=sys.stderr, flush=True)


def shard_from(text: str) -> Shard:
    """The shard that the environment describes."""
    try:
        shard = msgspec.json.decode(text, type=Shard)
    except msgspec.DecodeError as error:
        raise Failed(CONFIGURATION, f"SHARD is not a shard: {error}") from None
    if shard.page_size < 1 or shard.page_quota < 1 or (shard.max_items or 1) < 1:
        raise Failed(CONFIGURATION, "SHARD has a page_size, page_quota or max_items below 1")
    return shard


def address(environment: Mapping[str, str], name: str) -> str:
    """An address that the environment names."""
    root = environment[name].rstrip("/")
    if not ADDRESS.fullmatch(root):
        raise Failed(CONFIGURATION, f"{name} must be an https address without user or query, not {root!r}")
    return root


def run(environment: Mapping[str, str]) -> None:
    """Harvest what the environment says."""
    missing = [name for name in REQUIRED if not environment.get(name)]
    if missing:
        raise Failed(CONFIGURATION, f"{', '.join(missing)} not set; set what the head of this script lists")
    shard = shard_from(environment["SHARD"])
    root, container = address(environment, "GEOCATALOG_URL"), address(environment, "RESULTS_URL")
    identity, prefix = Identity(environment["AZURE_CLIENT_ID"]), environment["HARVEST_PREFIX"].strip("/")
    scope = environment.get("GEOCATALOG_SCOPE") or "https://geocatalog.spatio.azure.com/.default"
    budget = Budget()
    control = Control(Storage(Tokens(identity, STORAGE_SCOPE), container), budget, prefix, shard.name)
    control.refresh()
    control.start()
    catalog = Catalog(Tokens(identity, scope), root, environment["GEOCATALOG_API_VERSION"], budget, control.wake)
    storage = Storage(Tokens(identity, STORAGE_SCOPE), container)
    harvest(shard, catalog, storage, control, f"{prefix}/{environment['ITEMS_PREFIX'].strip('/')}")


def main() -> int:
    """Harvest; the exit code tells why that failed."""
    requests.models.CONTENT_CHUNK_SIZE = 1 << 20  # a page is read in a few pieces, not in hundreds
    logging.getLogger("azure").setLevel(logging.CRITICAL)  # what it warns of is said by `Failed`
    try:
        run(os.environ)
    except Failed as failed:
        note(str(failed))
        return failed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
