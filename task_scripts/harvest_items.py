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
import http.client
import io
import itertools
import json
import logging
import os
import random
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
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
REFUSED_LIMIT = {400, 413}
"""A service that wants smaller pages answers so, among other reasons."""
ATTEMPTS, MALFORMED_ATTEMPTS, LOST_ATTEMPTS, SLOW_ATTEMPTS, TOKEN_ATTEMPTS = 10, 4, 3, 2, 4
PATIENCE_SECONDS = 900
READ_SECONDS = float(os.environ.get("READ_TIMEOUT_SECONDS", "60"))
CONNECT_AND_READ_SECONDS = (10, READ_SECONDS)
ANSWER_SECONDS = 2 * READ_SECONDS
"""Until an answer has to be here as a whole; pages that take longer become smaller."""
ANSWER_BYTES = 256 << 20
"""Of an answer: headers and body as they come, and the body once more when it is decompressed. Larger pages become
smaller; an item that alone is larger fails."""
REFRESH_SECONDS, PROGRESS_SECONDS, LEAST_HOLD_SECONDS = 1.5, 5.0, 1.0
SECRET = re.compile(r"(?i:(?<=\bsig=))[^&\s\"'<>\\]+|\beyJ[\w-]{8,}(\.[\w-]*)*|(?<=://)[^/\s]+(?=@)")
"""Signature of a SAS, access token, user info of an address: services repeat what they were sent."""
UNKNOWN_RATE = 1.0
"""Calls a second while the harvest's budget cannot be read."""
RECEIPT_VERSION = "2.0"
LISTED_AT_MOST = 1000
IDS_AT_ONCE = 100
"""Ids in one search."""
SAFE_LIMIT = 1000
"""The largest page that the stack behind a GeoCatalog takes: above, pcstac answers 400."""
RECOVERIES_WITHOUT_PROGRESS = 3
IDLE_PAGES = 1000
"""Pages in a row that bring nothing new."""
PAGES_OF_ONE_SECOND = 5000
"""Pages that bring items of one second, or without a date; time cannot cut them."""
PAIRS_OF_A_PAGE, QUESTIONS = 100, 12
"""Neighbours in a page that are looked at closely, and questions about them in one task: see `Doubts`."""
SECOND = timedelta(seconds=1)
PARTS, BLOCK = 16, 100
"""Files that ids are spread over, so that one is small; items that are compressed together, which fit a cache."""
LATEST = datetime.max.replace(tzinfo=UTC)
EARLIEST = datetime.min.replace(tzinfo=UTC)
UNREADABLE, NO_GEOMETRY, BACKWARDS = "datetime is not RFC 3339", "no geometry", "start is not before end"
REFORMATTED = "reformatted: it came on several lines"
LISTED_FIELDS = {
    "include": ["id", "collection", *(f"properties.{name}" for name in ("datetime", "start_datetime", "end_datetime"))],
    "exclude": ["links"],
}
"""What a listing of ids asks for. The ancestor of the real service adds links unless they are excluded."""
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

    def __init__(
        self, problem: str, *, status: int = 0, seconds: float = 0, attempts: int = ATTEMPTS, slow: bool = False
    ) -> None:
        super().__init__(problem)
        self.status, self.seconds, self.attempts, self.slow = status, seconds, attempts, slow or status == 504
        self.exit_code = UNEXPECTED if attempts == MALFORMED_ATTEMPTS else UNAVAILABLE


class Oversized(Exception):
    """An answer that is longer than any that is expected; it would be again."""


class Dripping(Exception):
    """An answer that began and did not come to its end in time."""


class LostThread(Exception):
    """The service does not say what comes after a page, or says something impossible."""


class Disagreement(Exception):
    """The service compares dates or ids in another order than it sorts them."""


class TooLarge(Exception):
    """The service does not manage pages of this size."""


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


class Item(msgspec.Struct, gc=False):
    """As much of an item as is decoded; the rest stays bytes. No `gc`: it would look through a page again and again."""

    id: str
    collection: str | None = None
    geometry: msgspec.Raw = NULL
    properties: Dates | None = None
    stored: Any = msgspec.field(default=None, name="_msft:ts")
    """When a GeoCatalog wrote it (a member of the item in all recordings)."""


class Page(msgspec.Struct):
    """A page, its items as views of its bytes."""

    features: Sequence[msgspec.Raw | bytes]
    links: list[Json] | None = None
    matched: Any = msgspec.field(default=None, name="numberMatched")


class Strict(Page):
    """A page of which every item is JSON."""

    features: list[msgspec.Raw]


class Unreadable(NamedTuple):
    """An item that is none, as far as one can tell which."""

    id: str
    problem: str


class Entry(msgspec.Struct, gc=False):
    """An item, and what follows from its few decoded members."""

    raw: msgspec.Raw | bytes
    item: Item
    digest: bytes
    moment: datetime | None
    problem: str

    @property
    def placed(self) -> bool:
        """Whether one can tell where it stands in the order of time; undated ones stand at its end."""
        return self.moment is not None or self.problem != UNREADABLE

    @property
    def rank(self) -> datetime:
        """Its place in an ascending order; null comes last, as in PostgreSQL."""
        return self.moment or LATEST

    @property
    def key(self) -> bytes:
        """Enough of the digest to tell ids apart."""
        return self.digest[:16]


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
        if self.whole or (filtered and not entry.placed):
            return True
        if self.undated or entry.moment is None:
            return self.undated and entry.moment is None
        return (self.start is None or self.start <= entry.moment) and (self.end is None or entry.moment < self.end)


ANYTIME = Interval(None, None)


class Place(NamedTuple):
    """Where a walk has come to: the moment, null for undated items, and the id."""

    moment: datetime | None
    id: str


ITEM, PAGE = msgspec.json.Decoder(Item), msgspec.json.Decoder(Strict)
PLAIN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}|\.\d{6})?(?:Z|\+00:00)", re.ASCII)
"""What Python reads as PostgreSQL does, and ten times faster."""
MOMENT = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)(?:[Tt ](\d\d?):(\d\d?)(?::(\d\d?)(\.\d*)?)?(?: ?(?:[Zz]|([+-])(\d\d?)(?::?(\d\d))?))?)?",
    re.ASCII,
)
MARK = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)
"""What tells where the values of a JSON text begin and end; marks in strings do not count."""
NAME = re.compile(rb'\s*"([^"\\]*)"\s*:\s*')
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def instant(text: object) -> datetime | None:
    """The moment that PostgreSQL holds for a text, in whole microseconds; None outside of the years 1 to 9999.

    As PostgreSQL does it, `:60` is the next minute, `24:00:00` the next day, what is finer is rounded half to even, and
    no zone is 16 hours or more from UTC: https://www.postgresql.org/docs/current/datetime-input-rules.html.
    """
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text) if PLAIN.fullmatch(text) else lenient(text)
    except ValueError:
        return lenient(text)


def lenient(text: str) -> datetime | None:
    """A moment that Python does not read as PostgreSQL does."""
    found = MOMENT.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second, away, beside = (int(found[n] or 0) for n in (1, 2, 3, 4, 5, 6, 9, 10))
    microsecond = round(float(f"0{found[7] or ''}") * 1_000_000)
    clock = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microsecond)
    if minute > 59 or second > 60 or clock > timedelta(days=1) or away > 15 or beside > 59:
        return None
    zone = timedelta(hours=away, minutes=beside)
    try:
        return datetime(year, month, day, tzinfo=UTC) + (clock + zone if found[8] == "-" else clock - zone)
    except (ValueError, OverflowError):
        return None


def entries_of(raws: Iterable[msgspec.Raw | bytes]) -> tuple[list[Entry], list[Unreadable]]:
    """The items in some bytes, and those that are none."""
    entries, unreadable = [], []
    for raw in raws:
        try:
            item = ITEM.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            unreadable.append(Unreadable(name_in(bytes(raw)), f"it is no item that can be read: {error}"))
        else:
            entries.append(Entry(raw, item, digest_of(item.id), *moment_of(item.properties or Dates())))
    return entries, unreadable


def page_in(content: bytes) -> Page:
    """The page in an answer. Where an item of it is no JSON, the items are told apart by brackets and commas alone.

    Raises:
        msgspec.DecodeError: it is none, or cut short.
    """
    content = content.removeprefix(BYTE_ORDER_MARK)
    try:
        return PAGE.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        items = members(content).get(b"features")
        if items is None:
            raise
        rest = msgspec.json.decode(content[: items[0]] + b"[]" + content[items[1] :], type=Page)
        features = [content[low:high].strip() for low, high in parts(content, items[0])]
        return Page(features, rest.links, rest.matched)


def parts(content: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Where the elements of a list, or the members of an object, begin and end, whatever they are.

    Raises:
        msgspec.DecodeError: it does not end.
    """
    depth, begin = 0, start + 1
    for mark in MARK.finditer(content, start):
        depth += (mark[0] in b"{[") - (mark[0] in b"}]")
        if depth == 0 or (depth == 1 and mark[0] == b","):
            if content[begin : mark.start()].strip():
                yield begin, mark.start()
            begin = mark.end()
        if depth == 0:
            return
    raise msgspec.DecodeError("it ends too early")


def members(content: bytes) -> dict[bytes, tuple[int, int]]:
    """The members of an object: their names, and where their values begin and end."""
    start = len(content) - len(content.lstrip())
    named = ((NAME.match(content, low, high), high) for low, high in parts(content, start))
    return {name[1]: (name.end(), high) for name, high in named if name}


def name_in(raw: bytes) -> str:
    """The id of an item that cannot be read as a whole, or what it begins with."""
    try:
        low, high = members(raw)[b"id"]
        return msgspec.json.decode(raw[low:high], type=str)
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError):
        return f"(no id that can be read; it begins {one_line(raw[:100].decode(errors='replace'))})"


def digest_of(item_id: str) -> bytes:
    """What stands for an id."""
    return hashlib.sha256(item_id.encode()).digest()


def date_of(dates: Dates) -> Any:
    """The date that an item is owned and sorted by, by pgstac's rule: its start if start and end are both there."""
    ranged = dates.start_datetime is not None and dates.end_datetime is not None
    return dates.start_datetime if ranged else dates.datetime


def moment_of(dates: Dates) -> tuple[datetime | None, str]:
    """When an item is, and what is wrong with its dates."""
    date = date_of(dates)
    moment = instant(date)
    if moment is None or date is not dates.start_datetime:
        return moment, UNREADABLE if moment is None and date is not None else ""
    end = instant(dates.end_datetime)
    if end is None:
        return moment, UNREADABLE
    return moment, "" if moment < end else BACKWARDS


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


def conditions(interval: Interval, place: Place | None, backwards: bool, undated: bool) -> list[Json]:
    """What is true of the items of an interval, from a place on."""
    parts = [UNDATED] if interval.undated else []
    if interval.start:
        parts.append(compare(">=", "datetime", interval.start))
    if interval.end:
        parts.append(compare("<", "datetime", interval.end))
    return parts + (beyond(place, backwards, undated) if place else [])


def beyond(place: Place, backwards: bool, undated: bool) -> list[Json]:
    """What is true of the items behind a place: undated ones are last, backwards first.

    Args:
        place: a moment and an id.
        backwards: whether the order is descending.
        undated: whether, ascending, the undated items are asked for, too. Without them a database can leave out what
            lies before the moment as a whole, which pgstac's partitions depend on.
    """
    onward = "<" if backwards else ">"
    if place.moment is None:
        tie = joined("and", [UNDATED, compare(onward, "id", place.id)])
        return [joined("or", [tie, {"op": "not", "args": [UNDATED]}]) if backwards else tie]
    tie = joined("and", [compare("=", "datetime", place.moment), compare(onward, "id", place.id)])
    later = [tie, compare(onward, "datetime", place.moment)]
    if undated and not backwards:
        return [joined("or", [*later, UNDATED])]
    return [compare(f"{onward}=", "datetime", place.moment), joined("or", later)]


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
    limit: int = 0
    """Items that it asks for, where it asks for a page."""


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


class Wire(io.RawIOBase):
    """What comes in as one answer: `requests` has a timeout for every piece, and urllib3 reads lines of any length."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self.sock, self.raw = sock, raw
        self.began, self.size = time.monotonic(), 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next piece, if there is time and room for it."""
        left = self.began + ANSWER_SECONDS - time.monotonic()
        self.sock.settimeout(max(0.001, min(left, READ_SECONDS)))
        try:
            size = self.raw.readinto(buffer) if left > 0 else None
        except TimeoutError:
            if left > READ_SECONDS or not self.size:
                raise
            size = None
        if size is None:
            raise Dripping(f"after {ANSWER_SECONDS:g} s the answer was not at its end; {self.size} bytes had come")
        self.size += size
        if self.size > ANSWER_BYTES:
            raise Oversized(f"the answer is longer than {ANSWER_BYTES} bytes")
        return int(size)

    def close(self) -> None:
        """Let go of the socket."""
        self.raw.close()
        super().close()


class Answer(http.client.HTTPResponse):
    """An answer that is read from a `Wire`."""

    def __init__(self, sock: socket.socket, *arguments: Any, **keywords: Any) -> None:
        super().__init__(sock, *arguments, **keywords)
        self.fp = io.BufferedReader(Wire(sock, self.fp.detach()))

    def begin(self) -> None:
        """Read the headers; http.client takes a hundred of 64 KiB each."""
        try:
            super().begin()
        except http.client.BadStatusLine:
            raise  # the connection broke
        except http.client.HTTPException as error:
            raise Oversized(f"the headers of the answer are none that a service sends: {error}") from None


def limit_body(answer: requests.Response, **_: Any) -> None:
    """Stop at a body that is too long, or takes too long, to decompress; a hook of a session."""
    whole, began = answer.raw.stream, time.monotonic()

    def counted(*arguments: Any, **keywords: Any) -> Iterator[bytes]:
        size = 0
        for piece in whole(*arguments, **keywords):
            size += len(piece)
            if time.monotonic() - began > ANSWER_SECONDS:  # gzip in many members takes urllib3 minutes to decompress
                raise Dripping(f"after {ANSWER_SECONDS:g} s the answer was not decompressed; {size} bytes had come out")
            if size > ANSWER_BYTES:
                raise Oversized(f"the answer is longer than {ANSWER_BYTES} bytes when it is decompressed")
            yield piece

    answer.raw.stream = counted  # type: ignore[method-assign]  # requests reads a body by this alone


class Session(requests.Session):
    """A session that follows no redirect, and does not even look where one leads."""

    def __init__(self, auth: "Tokens") -> None:
        super().__init__()
        self.auth = auth
        self.hooks["response"].append(limit_body)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests parses it even where it is told not to follow it, and fails on odd ones."""


class Service:
    """Asks until there is an answer that can be read, or a reason to give up."""

    forbidden = ""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.session = Session(tokens)
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
            TooLarge: pages of this size took too long, twice in a row.
        """
        slow = 0
        for attempt in itertools.count(1):
            try:
                return self.attempt(call, read)
            except Again as again:
                problem, wait = again, max(backoff(attempt), again.seconds)
            if call.continued and problem.status == 500 and attempt >= LOST_ATTEMPTS:
                raise LostThread(str(problem))  # pgstac answers so when the item that its token names is gone
            if attempt >= problem.attempts or time.monotonic() + wait > self.deadline:
                break
            slow = slow + 1 if problem.slow else 0
            if slow == SLOW_ATTEMPTS and call.limit > 1 and not call.continued:
                raise TooLarge(str(problem))
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
                problem = f"the answer is cut short or not what was expected ({error}): {beginning(answer)}"
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
        except Dripping as late:
            raise Again(str(late), slow=True) from None
        except Oversized as large:
            if call.limit > 1 and not call.continued:
                raise TooLarge(str(large)) from None
            raise Failed(UNEXPECTED, f"{call.method} {call.url}: {large}") from None
        except requests.RequestException as error:
            problem = one_line(str(getattr(error.args[0], "reason", error)) if error.args else repr(error))
            attempts = 1 if "CERTIFICATE_VERIFY_FAILED" in problem else ATTEMPTS
            raise Again(problem, attempts=attempts, slow=isinstance(error, requests.ReadTimeout)) from None
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
        self.harvest_id = prefix.rsplit("/", 1)[-1]
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
        self.lock = threading.Lock()
        self.calls = self.throttled = 0
        self.sorts = self.filters = self.picks_fields = True
        self.refuted: set[str] = set()
        self.questions = 0
        self.disagreement = ""
        """Where it compares in another order than it sorts, so that a walk has to go by its links."""
        self.limit = sys.maxsize
        """The largest page that it gives."""
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

    @property
    def by_value(self) -> bool:
        """Whether a page can be asked for by what lies before it, not by a link."""
        return self.sorts and not self.disagreement

    def halve(self, limit: int, reason: str) -> None:
        """Ask for smaller pages from now on."""
        self.limit = SAFE_LIMIT if limit > SAFE_LIMIT else max(1, limit // 2)
        note(f"{reason}; pages of {self.limit} items from now on")

    def search(
        self,
        shard: Shard,
        interval: Interval,
        place: Place | None = None,
        *,
        backwards: bool = False,
        undated: bool = False,
        limit: int | None = None,
        ids: Sequence[str] = (),
        fields: Json | None = None,
    ) -> Call:
        """The page of an interval from a place on; see `conditions`."""
        limit = min(limit or shard.page_size, self.limit)
        query: Json = {"collections": [shard.collection], "limit": limit, **UNSIGNED}
        query |= {"ids": ids} if ids else {}
        query |= {"fields": fields} if fields else {}
        if shard.bbox:
            query["bbox"] = shard.bbox
        if self.sorts:
            query["sortby"] = [
                {"field": name, "direction": "desc" if backwards else "asc"} for name in ("datetime", "id")
            ]
        if self.filters:
            parts = conditions(interval, place, backwards, undated) + ([shard.filter] if shard.filter else [])
            query |= {"filter": joined("and", parts), "filter-lang": "cql2-json"} if parts else {}
        elif shard.filter:
            raise Failed(UNEXPECTED, f"the STAC API at {self.root} does not filter by CQL2, but a filter was asked for")
        elif (moments := closed_interval(interval, place, backwards)) != "../..":
            query["datetime"] = moments
        return Call("POST", self.url("/search"), msgspec.json.encode(query), headers=JSON_BODY, limit=limit)

    def page(self, call: Call) -> Page:
        """The page that a call asks for; one call at a time, whichever thread asks."""
        with self.lock:
            return self.ask(call, lambda answer: page_in(answer.content))

    def accepts(self, call: Call) -> bool:
        """Whether it answers a call with a page, instead of refusing it."""
        try:
            self.page(call)
        except Failed as failed:
            if failed.status not in REFUSED_LIMIT:
                raise
            return False
        return True

    def find(self, shard: Shard, ids: Sequence[str], place: Place | None = None, fields: Json | None = None) -> "Found":
        """The items of up to `IDS_AT_ONCE` ids as they are now, by the query's conditions and beyond a place."""
        found = Found()
        first = self.search(shard, ANYTIME, place, undated=True, limit=len(ids), ids=ids, fields=fields)
        call = first if ids else None
        while call and found.answers and found.pages < IDS_AT_ONCE:
            try:
                page = self.page(call)
            except TooLarge as large:
                self.halve(call.limit, str(large))
                return self.find(shard, ids, place, fields)
            except LostThread:
                break
            found.add(shard, ids, page)
            call = self.following(call, page)
        found.answers = found.answers and call is None
        return found

    def counted(self, shard: Shard, interval: Interval) -> int:
        """How many items the catalog says that there are; 0 where it says nothing."""
        matched = self.page(self.search(shard, interval, limit=1)).matched
        return matched if isinstance(matched, int) else 0

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
            return Call("GET", url, continued=True, limit=call.limit)
        sent, body = msgspec.json.decode(call.body or b"{}"), link.get("body") or {}
        # A body that lacks the collections would search everything, so it can only be meant to be merged.
        merged = {**sent, **body} if link.get("merge") or "collections" not in body else body
        body = msgspec.json.encode(merged | UNSIGNED)
        return Call("POST", url, body, headers=JSON_BODY, continued=True, limit=call.limit)


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


class Ahead:
    """Downloads the page that is needed next while the last one is worked on."""

    def __init__(self, catalog: Catalog, pool: ThreadPoolExecutor) -> None:
        self.catalog, self.pool = catalog, pool
        self.begun: tuple[bytes, Future[Page]] | None = None

    def begin(self, call: Call) -> Future[Page]:
        """Start a download, unless it has begun."""
        name = fingerprint(call)
        if self.begun is None or self.begun[0] != name:
            self.begun = name, self.pool.submit(self.catalog.page, call)
        return self.begun[1]

    def page(self, call: Call) -> Page:
        """The page that a call asks for."""
        download, self.begun = self.begin(call), None
        return download.result()


class Found:
    """What a search by ids brought."""

    def __init__(self) -> None:
        self.pages = 0
        self.entries: dict[bytes, Entry] = {}
        self.unreadable: dict[str, str] = {}
        self.answers = True
        """Whether only what was asked for came, so that what did not come can be said to be absent."""

    def add(self, shard: Shard, ids: Iterable[str], page: Page) -> None:
        """Take the items of a page that were asked for."""
        self.pages += 1
        entries, unreadable = entries_of(page.features)
        self.unreadable.update(unreadable)
        for entry in entries:
            if entry.item.id in ids and entry.item.collection in (shard.collection, None):
                self.entries[entry.key] = entry
            else:
                self.answers = False


class Walk:
    """Pages through an interval in one direction, so that every item comes that stands still meanwhile.

    It goes on from a value: the next page is what lies beyond the last date and id. A link's token names an item to a
    GeoCatalog, which looks its date up when the next page is asked for, so that an edit of that item skips others.
    Where the service does not filter, the walk goes on from the last date by the `datetime` parameter; where it does
    not sort, or compares in another order than it sorts (see `Order`), by links, and nothing is proven.

    The next page is downloaded while this one is worked on. Behind the end the walk looks again: where the service has
    given links, only a link or a full page leads on from there, otherwise whatever is new.
    """

    def __init__(
        self, catalog: Catalog, shard: Shard, interval: Interval, *, backwards: bool = False, ids_only: bool = False
    ) -> None:
        self.catalog, self.shard, self.interval = catalog, shard, interval
        self.backwards = backwards
        self.fields = LISTED_FIELDS if ids_only else None
        self.pages = self.starts = self.idle = self.recoveries = self.pages_of_second = 0
        self.linked = self.more = False
        self.matched: Any = None
        """What the service says how many items there are, if it says so."""
        self.unreadable: dict[str, str] = {}
        self.foreign: dict[str, str] = {}
        """Items that name another collection, and which."""
        self.problem = ""
        """Why the walk ended before its end."""
        self.opposite: Entry | None = None
        """Of a walk backwards, the last item of the one forwards."""
        self.forget()

    def forget(self) -> None:
        """Be at the beginning."""
        self.place: Place | None = None
        self.last: Entry | None = None
        self.looking = self.moved = self.came_again = False
        self.widest = 0
        self.chain: Call | None = None
        """The call whose page, and those behind its links, are being read."""
        self.tied: set[bytes] = set()
        self.odd: set[bytes] = set()
        self.page_before: dict[bytes, Entry] = {}
        self.asked: set[bytes] = set()
        self.seen: set[bytes] = set()

    def __iter__(self) -> Iterator[list[Entry]]:
        """The items of each page that are new, empty pages included; `starts` tells that all of them come again."""
        call: Call | None = self.search()
        with ThreadPoolExecutor(1) as pool:
            ahead = Ahead(self.catalog, pool)
            while call:
                self.chain = self.chain if call.continued else call
                try:
                    page = ahead.page(call)
                    self.pages += 1
                    self.hasten(ahead, call, page)
                    fresh = self.accept(call, page)
                except (Disagreement, LostThread, TooLarge, Failed) as problem:
                    call = self.go_on(call, problem)
                    continue
                call = self.onward(call, page, fresh)
                if call and self.hurried:
                    ahead.begin(call)
                yield fresh

    @property
    def hurried(self) -> bool:
        """Whether the next page is most likely needed: at the quota, this one is most likely the last."""
        return bool(self.fields) or self.pages != self.shard.page_quota

    def search(self, *, undated: bool = False) -> Call:
        """The call for the page from the place on, or for the first one."""
        return self.search_from(self.place, undated)

    def search_from(self, place: Place | None, undated: bool = False) -> Call:
        """The call for the page from a place on."""
        return self.catalog.search(
            self.shard, self.interval, place, backwards=self.backwards, undated=undated, fields=self.fields
        )

    def hasten(self, ahead: Ahead, call: Call, page: Page) -> None:
        """Begin to download what most likely follows, before this page is looked through."""
        if self.catalog.by_value and self.catalog.filters and self.hurried and leads(call, page):
            for entry in entries_of(page.features[-1:])[0]:
                if entry.placed:
                    ahead.begin(self.search_from(Place(entry.moment, entry.item.id)))

    def accept(self, call: Call, page: Page) -> list[Entry]:
        """The items of a page that are new, after a check of their order.

        Raises:
            Disagreement: the service compares in another order than it sorts.
            LostThread: a link led to a page that came before.
        """
        if self.matched is None:
            self.matched = page.matched
        entries, unreadable = entries_of(page.features)
        self.unreadable.update(unreadable)
        expected = (self.shard.collection, None)
        own = [entry for entry in entries if entry.item.collection in expected]
        if len(own) < len(entries):
            self.foreign |= {e.item.id: str(e.item.collection) for e in entries if e.item.collection not in expected}
        if not self.catalog.by_value:
            self.check_circle(own)
            return own
        fresh = [entry for entry in own if self.is_new(entry)]
        placed = [entry for entry in fresh if entry.placed]
        self.check_filter(own)
        self.check_order(placed)
        self.came_again = any(entry.key in self.odd for entry in own)
        self.page_before = {entry.key: entry for entry in own}
        self.odd.update(entry.key for entry in fresh if not entry.placed)
        self.moved = bool(placed)
        if placed:
            self.advance(placed)
        return fresh

    def is_new(self, entry: Entry) -> bool:
        """Whether it has not come yet, of the items that a page from the place on may bring again."""
        if entry.key in self.odd or self.repeats(entry):
            return False
        if self.catalog.filters or not self.place or not entry.placed:
            return True
        here, there = second(self.place.moment or LATEST), second(entry.rank)
        return entry.key not in self.tied if here == there else (there < here) == self.backwards

    def repeats(self, entry: Entry) -> bool:
        """Whether the page before held it, as it is."""
        before = self.page_before.get(entry.key)
        return before is not None and before.rank == entry.rank and bytes(before.raw) == bytes(entry.raw)

    def check_circle(self, entries: list[Entry]) -> None:
        """Note that a page came by a link."""
        content = hashlib.sha256(b"".join(entry.digest for entry in entries)).digest()
        if entries and content in self.seen:
            raise LostThread("a page came before")
        self.seen.add(content)

    def check_filter(self, entries: list[Entry]) -> None:
        """Look for items that a page from the place on cannot hold; of a page before, it may repeat the last alone."""
        if not self.place or not self.catalog.filters:
            return
        here = second(self.place.moment or LATEST)
        for entry in entries:
            there = second(entry.rank)
            behind = entry.placed and there != here and (there < here) != self.backwards
            if behind or (self.last and entry.key != self.last.key and entry.placed and self.repeats(entry)):
                raise Disagreement(f"the service does not filter as it was asked to: {entry.item.id} came again")

    def check_order(self, entries: list[Entry]) -> None:
        """Look for items that tell in which order the service compares, and ask it."""
        chain = [self.last, *entries] if self.last else entries
        pairs: Iterable[tuple[Entry, Entry]] = pairwise(reversed(chain) if self.backwards else chain)
        if self.opposite and not self.last:
            pairs = itertools.chain(((self.opposite, first) for first in entries[:1]), pairs)
        doubts = Doubts(self.catalog, self.shard)
        for before, after in pairs:
            if after.rank - before.rank < SECOND and before.key != after.key:
                doubts.consider(before, after)

    def advance(self, entries: list[Entry]) -> None:
        """Remember where the walk is, and what it saw there."""
        last = entries[-1]
        here = second(last.rank)
        same = self.place is not None and second(self.place.moment or LATEST) == here
        self.pages_of_second = self.pages_of_second + 1 if same else 0
        if not self.catalog.filters:
            self.tied = {*(self.tied if same else ()), *(e.key for e in entries if second(e.rank) == here)}
        self.place, self.last = Place(last.moment, last.item.id), last

    def onward(self, call: Call, page: Page, fresh: list[Entry]) -> Call | None:
        """The call for what follows a page; None at the end."""
        link = self.catalog.following(call, page)
        self.linked = self.linked or link is not None
        self.idle = 0 if fresh else self.idle + 1
        self.recoveries = 0 if fresh else self.recoveries
        self.problem = self.endless()
        if self.problem:
            self.more = False
            return None
        if not self.catalog.by_value:
            self.more = link is not None
            return self.by_link(link)
        return self.by_value(call, page, link, fresh)

    def by_value(self, call: Call, page: Page, link: Call | None, fresh: list[Entry]) -> Call | None:
        """The call for what lies beyond the place, or behind the end."""
        looking, self.looking = self.looking, False
        # Items without a place come again at the end of the order, behind all that have one.
        at_end = self.linked and self.came_again
        leading = leads(call, page) and not at_end
        self.more = leading or (looking and bool(fresh) and not self.linked)
        widest, self.widest = self.widest, max(self.widest, len(page.features))
        if self.more and self.moved:
            return self.search() if leading else self.look_on(len(page.features) < widest)
        if link and not (looking and at_end):
            return self.by_link(link)
        if self.more and not self.linked:
            self.problem = f"a page of {len(page.features)} items has no date to go on from, and no next link"
        elif self.place and not looking and (self.moved or not self.asked_for_all):
            return self.look()
        return None

    def look_on(self, shorter: bool) -> Call | None:
        """The call that looks behind the end again, up to the quota: items may be added as fast as they are read.

        Args:
            shorter: whether the page has fewer items than another one had, so that no cap of the service made it end.
        """
        if self.pages < self.shard.page_quota:
            return self.look()
        if not shorter:
            self.problem = f"{self.pages} pages without a next link did not come to an end"
        return None

    def look(self) -> Call:
        """The call that finds what lies behind the last item."""
        self.looking = True
        return self.search(undated=True)

    @property
    def asked_for_all(self) -> bool:
        """Whether the pages that were just read were to hold everything beyond the place."""
        return self.chain is not None and fingerprint(self.chain) == fingerprint(self.search(undated=True))

    def by_link(self, link: Call | None) -> Call | None:
        """The call for the page that a link leads to, each link once."""
        if link is None:
            return None
        name = fingerprint(link)
        if name in self.asked:
            return self.go_on(link, LostThread("a next link came before"))
        self.asked.add(name)
        return link

    def endless(self) -> str:
        """Why it makes no sense to go on; empty if it does."""
        if self.idle >= IDLE_PAGES:
            return f"{IDLE_PAGES} pages in a row brought nothing new"
        if self.pages_of_second >= PAGES_OF_ONE_SECOND:
            return f"{PAGES_OF_ONE_SECOND} pages hold items of one second, or without a date"
        return ""

    def go_on(self, call: Call, problem: Exception) -> Call:
        """The call to go on with after a problem.

        Raises:
            Failed: there is none.
        """
        match problem:
            case Disagreement() if not self.recoveries:  # a page that goes back once is a slip
                return self.recover(str(problem))
            case Disagreement():
                self.catalog.disagreement = str(problem)
                return self.start_over(str(problem))
            case TooLarge():
                self.catalog.halve(call.limit, str(problem))
                return self.search()
            case LostThread():
                return self.recover(str(problem))
            case Failed(status=status) if status in REFUSED_LIMIT and not call.continued:
                return self.simplify(call, problem)
        raise problem

    def recover(self, reason: str) -> Call:
        """The call to go on with when a link leads nowhere."""
        self.recoveries += 1
        if self.recoveries > RECOVERIES_WITHOUT_PROGRESS:
            raise Failed(UNEXPECTED, f"the pages of {self.shard.collection} lead nowhere, again and again: {reason}")
        if not self.catalog.by_value:
            return self.start_over(reason)
        note(f"{reason}; asking again from {self.place} on")
        self.asked.clear()
        return self.search()

    def start_over(self, reason: str) -> Call:
        """The first call, once more."""
        note(f"{reason}; starting over")
        self.starts += self.pages > 0
        if self.starts > RECOVERIES_WITHOUT_PROGRESS:
            raise Failed(UNEXPECTED, f"{self.shard.collection} was started {self.starts} times in vain: {reason}")
        self.forget()
        return self.search()

    def simplify(self, call: Call, refused: Failed) -> Call:
        """Ask for less after a 400: it does not say what was refused, so each is tried without the others."""
        if call.limit > 1 and self.catalog.accepts(smallest(call)):
            self.catalog.halve(call.limit, str(refused))
            return self.search()
        if not self.fields:
            for dropped in (("sorts",), ("filters",), ("sorts", "filters")):
                if "filters" in dropped and self.shard.filter is not None:
                    continue
                vars(self.catalog).update(dict.fromkeys(dropped, False))
                if self.catalog.accepts(smallest(self.search())):
                    return self.start_over(str(refused))
                vars(self.catalog).update(dict.fromkeys(dropped, True))
        raise refused


def smallest(call: Call) -> Call:
    """The same call for one item."""
    return replace(call, body=msgspec.json.encode({**msgspec.json.decode(call.body), "limit": 1}), limit=1)


def leads(call: Call, page: Page) -> bool:
    """Whether a page says that another follows: by a link, or since it is full."""
    return len(page.features) >= call.limit or any(link.get("rel") == "next" for link in page.links or [])


def second(moment: datetime) -> datetime:
    """The whole second that a moment is in."""
    return moment.replace(microsecond=0)


SECONDS = "seconds"
"""The order of dates in which shards are cut: a service that sorts otherwise cannot be walked by value."""


class Order(NamedTuple):
    """An order in which a service might compare. A pair that it sorts otherwise tells whether it does."""

    name: str
    of_ids: bool
    """Whether it orders items of one date, by their ids, or items of different dates."""
    key: Callable[[Entry], Any]


ORDERS = (
    Order("dates", False, lambda entry: entry.rank),
    Order(SECONDS, False, lambda entry: second(entry.rank)),
    Order(
        "dates cut to milliseconds, then ids", False, lambda e: (e.rank.isoformat(timespec="milliseconds"), e.item.id)
    ),
    Order("dates cut to seconds, then ids", False, lambda entry: (second(entry.rank), entry.item.id)),
    Order("dates as text", False, lambda entry: str(date_of(entry.item.properties or Dates()))),
    Order("ids", True, lambda entry: entry.item.id),
    Order("ids without case", True, lambda entry: (entry.item.id.casefold(), entry.item.id)),
    Order("letters and digits of ids", True, lambda e: (re.sub(r"[\W_]", "", e.item.id).casefold(), e.item.id)),
)


class Doubts:
    """Asks a service whether it compares as it sorts, by pairs that it sorts otherwise than it might compare.

    Where it cuts dates to seconds to compare but not to sort, for instance, a page would begin behind items that never
    came. One pair that it compares as it sorts refutes all orders which have that pair the other way round.
    """

    def __init__(self, catalog: Catalog, shard: Shard) -> None:
        self.catalog, self.shard = catalog, shard
        self.considered = 0

    def consider(self, before: Entry, after: Entry) -> None:
        """Take note of two items, in the service's ascending order.

        Raises:
            Disagreement: it compares them otherwise.
        """
        self.considered += 1
        if self.considered > PAIRS_OF_A_PAGE and before.rank <= after.rank:
            return
        doubted = {
            order.name
            for order in ORDERS
            if order.of_ids == (before.rank == after.rank)
            and order.name not in self.catalog.refuted
            and order.key(before) > order.key(after)
        }
        if not doubted:
            return
        agreed = self.agrees(before, after)
        if agreed is False or (agreed and SECONDS in doubted):
            raise Disagreement(
                f"the service does not compare {' or '.join(sorted(doubted))} in the order in which it sorts: "
                f"{before.item.id} comes before {after.item.id}"
            )
        if agreed:
            self.catalog.refuted |= doubted

    def agrees(self, before: Entry, after: Entry) -> bool | None:
        """Whether the service takes the second of two items for the later one; None where they changed meanwhile."""
        if not self.catalog.filters:
            return second(before.rank) <= second(after.rank)
        ids = (before.item.id, after.item.id)
        for _ in range(2):
            if self.catalog.questions >= QUESTIONS:
                return None
            self.catalog.questions += 1
            place = Place(before.moment, before.item.id)
            if set(self.catalog.find(self.shard, ids, place, LISTED_FIELDS).entries) == {after.key}:
                return True
            now = self.catalog.find(self.shard, ids, fields=LISTED_FIELDS).entries
            if any(entry.key not in now or now[entry.key].moment != entry.moment for entry in (before, after)):
                return None
        return False


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


def lines_in(file: Path) -> Iterator[bytes]:
    """The lines of a zstd frame that need not be finished.

    A `stream_reader` keeps back what it made of the last input until the frame ends; a `decompressobj` does not.
    """
    frame, rest = zstandard.ZstdDecompressor().decompressobj(), b""
    with file.open("rb") as packed:
        while block := packed.read(1 << 16):
            *lines, rest = (rest + frame.decompress(block)).split(b"\n")
            yield from lines


class Archive:
    """The items as they came, one a line, in one zstd frame; and what the receipt says of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.file = self.folder / "items.ndjson.zst.part"
        self.ids = Ids(self.folder / "ids")
        self.target = self.file.open("wb")
        # Items are so alike that higher levels take longer and save little.
        self.zstd = zstandard.ZstdCompressor(level=1).stream_writer(self.target)
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
        """Read back what was written so far.

        Raises:
            Failed: not every item came back.
        """
        self.zstd.flush(zstandard.FLUSH_BLOCK)
        self.target.flush()
        count = 0
        for line in lines_in(self.file):
            entries, _ = entries_of([line])
            count += len(entries)
            yield from entries
        if count != self.count:
            raise Failed(UNEXPECTED, f"{count} of {self.count} items could be read back from this node's disk")

    def newest_only(self) -> "Archive":
        """The archive with each id once: the version that the catalog wrote last, or else that came last."""
        repeated = self.ids.repeated()
        if not repeated:
            return self
        newest: dict[bytes, tuple[datetime, int]] = {}
        for number, entry in enumerate(self.entries()):
            if entry.key in repeated:
                version = instant(entry.item.stored) or EARLIEST, number
                newest[entry.key] = max(version, newest.get(entry.key, version))
        clean = Archive(self.folder.parent)
        kept = (e for n, e in enumerate(self.entries()) if e.key not in repeated or newest[e.key][1] == n)
        clean.add(kept)
        self.close()
        return clean

    def versions(self, keys: set[bytes]) -> dict[bytes, tuple[str, bytes]]:
        """The ids behind some digests, and which bytes came last."""
        return {e.key: (e.item.id, version(e)) for e in self.entries() if e.key in keys} if keys else {}

    def close(self) -> None:
        """Finish the file."""
        self.zstd.close()  # type: ignore[no-untyped-call]  # its stubs leave it out
        self.ids.close()

    def seal(self) -> Json:
        """Size and digest of the finished file."""
        with self.file.open("rb") as file:
            return {"size": self.file.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def version(entry: Entry) -> bytes:
    """What tells the bytes of an item apart from others."""
    return hashlib.sha256(entry.raw).digest()


def batches(keys: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """Some keys at a time."""
    some = iter(keys)
    while batch := list(itertools.islice(some, size)):
        yield batch


class Verification:
    """Compares the archive with a second look at the covered interval, in reverse order and for ids only.

    What the second look finds and the archive lacks is fetched and archived, whatever it may be; what the catalog lacks
    when it is asked for twice is gone. Nothing else explains a difference.
    """

    def __init__(self, harvest: "Harvest") -> None:
        self.catalog, self.shard, self.covered = harvest.catalog, harvest.shard, harvest.covered
        self.archive, self.last = harvest.archive, None if harvest.cut else harvest.walk.last
        self.arrived: dict[bytes, str] = {}
        self.deleted: dict[bytes, str] = {}
        self.settled: set[bytes] = set()
        self.unsettled: dict[bytes, str] = {}
        self.unreadable: dict[str, str] = {}
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
                if self.unsettled:
                    self.unsettled = self.compare()
            except Failed as failed:
                if failed.status != 400:
                    raise
                self.problem = f"the service refused sortby or fields: {failed}"
        if self.unsettled:
            self.problem = "the two looks differ in ids that cannot be explained"
        self.problem = self.problem or self.catalog.disagreement

    def compare(self) -> dict[bytes, str]:
        """Look a second time; the ids that differ and are not explained."""
        with tempfile.TemporaryDirectory(dir=self.archive.folder) as folder:
            second, listing = Ids(Path(folder) / "ids"), Path(folder) / "listing"
            self.list_ids(second, listing)
            missing, extra = (keys - self.settled for keys in self.archive.ids.difference(second))
            second.close()
            missed = names_in(listing, missing)
        archived = self.archive.versions(extra)
        names = missed | {key: name for key, (name, _) in archived.items()}
        left: dict[bytes, str] = {}
        for keys in batches(names, IDS_AT_ONCE):
            left |= self.settle({key: names[key] for key in keys}, {key: v for key, (_, v) in archived.items()})
        return left

    def list_ids(self, second: Ids, listing: Path) -> None:
        """Write down what the second look finds; of a part cut short by `max_items`, the same part."""
        limited = self.archive.count == self.shard.max_items
        walk = Walk(self.catalog, self.shard, self.covered, backwards=not limited, ids_only=True)
        walk.opposite = None if limited else self.last
        found = starts = 0
        with listing.open("wb") as lines:
            for page in walk:
                if walk.starts > starts:
                    starts, found = walk.starts, 0
                owned = self.covered.owned(page, self.catalog.filters)
                if limited:
                    owned = owned[: self.archive.count - found]
                found += len(owned)
                second.add(owned)
                lines.write(msgspec.json.encode([entry.item.id for entry in owned]) + b"\n")
                if limited and found == self.archive.count:
                    break
        self.problem = walk.problem

    def settle(self, names: dict[bytes, str], archived: dict[bytes, bytes]) -> dict[bytes, str]:
        """Ask for what only one of the looks has; the ids that stay unexplained.

        What does not come is asked for again, since a service may give fewer than were asked for. Absent is what two
        searches in a row lack, if no listing shows it.
        """
        there: dict[bytes, Entry] = {}
        gone, misses, answers = dict(names), 0, True
        while gone and misses < 2:
            found = self.catalog.find(self.shard, list(gone.values()))
            self.unreadable |= found.unreadable
            answers, misses = answers and found.answers, 0 if found.entries else misses + 1
            there |= found.entries
            gone = {key: name for key, name in gone.items() if key not in there}
        if not answers or self.catalog.find(self.shard, list(gone.values()), fields=LISTED_FIELDS).entries:
            left, gone = gone, {}
        else:
            left = {}
        for key, entry in there.items():
            if not self.explains(entry, archived.get(key)):
                left[key] = names[key]
            elif key not in archived and self.covered.owns(entry, self.catalog.filters):
                self.arrived[key] = names[key]
        self.deleted |= gone
        self.settled |= names.keys() - left.keys()
        return left

    def explains(self, now: Entry, archived: bytes | None) -> bool:
        """Whether a difference is explained by an item as it is now, which is archived if it belongs here."""
        if not self.covered.owns(now, self.catalog.filters):
            return True
        if archived == version(now):
            return False
        self.archive.add([now])
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
        self.beside: set[bytes] = set()
        """Items that came and belong to other shards, of a service that narrows to intervals that they overlap."""

    def run(self) -> None:
        """Page to the end, or to where the quota or the wish for so many items ends it."""
        starts = 0
        for page in self.walk:
            if self.walk.starts > starts:
                starts = self.walk.starts
                self.archive.close()
                self.archive = Archive(self.folder)
            owned = self.interval.owned(page, self.catalog.filters)
            if len(owned) < len(page):
                self.beside |= {entry.key for entry in page} - {entry.key for entry in owned}
            self.cut = self.where_to_cut(owned)
            if self.cut:
                owned = [entry for entry in owned if entry.moment and entry.moment < self.cut]
            if self.shard.max_items is not None:
                owned = owned[: self.shard.max_items - self.archive.count]
            self.archive.add(owned)
            self.tell(len(page))
            if self.cut or self.archive.count == self.shard.max_items:
                break

    def where_to_cut(self, owned: list[Entry]) -> datetime | None:
        """The last whole second, once the quota is reached; nothing archived lies behind it, and something before.

        A service that compares milliseconds or seconds loses nothing at a whole second.
        """
        if self.walk.pages < self.shard.page_quota or not (self.walk.more and self.catalog.by_value and owned):
            return None
        if not all(entry.moment for entry in owned):
            return None
        first, last = second(owned[0].rank), second(owned[-1].rank)
        before = self.archive.last or first
        return last if last > before else None

    def tell(self, items: int) -> None:
        """Say how far it is."""
        note(f"page {self.walk.pages}: {items} items, {self.archive.count} archived")
        self.control.progress = {"pages": self.walk.pages, "items": self.archive.count}

    @property
    def covered(self) -> Interval:
        """What was looked at in full."""
        return Interval(self.interval.start, self.cut, False) if self.cut else self.interval

    def uncounted(self, came: int) -> int:
        """Items that the catalog counts and that did not come, after it was asked once more."""
        came += len(self.beside)
        if not isinstance(self.walk.matched, int) or self.archive.count == self.shard.max_items:
            return 0
        if (self.cut and not self.catalog.filters) or (not self.cut and self.walk.matched <= came):
            return 0
        return max(0, self.catalog.counted(self.shard, self.covered) - came)


class Evidence:
    """What speaks against a shard's being whole, whatever the second look says."""

    def __init__(self, harvest: Harvest, verification: Verification, came: int) -> None:
        walk = harvest.walk
        self.unreadable = walk.unreadable | verification.unreadable
        self.foreign = walk.foreign
        self.uncounted = harvest.uncounted(came + len(self.unreadable) + len(self.foreign))
        self.ended = "" if harvest.cut else walk.problem

    @property
    def problems(self) -> list[str]:
        """A sentence for each."""
        told = [f"{len(self.unreadable)} items cannot be read: {some(self.unreadable)}"] if self.unreadable else []
        if self.foreign:
            told.append(f"{len(self.foreign)} items name another collection: {some(self.foreign)}")
        if self.uncounted:
            told.append(f"the catalog counts {self.uncounted} items more than it gave")
        return [*told, self.ended] if self.ended else told


def some(named: dict[str, str]) -> str:
    """The first few of some items, and what is odd about them."""
    first = "; ".join(f"{name} ({problem})" for name, problem in itertools.islice(named.items(), 3))
    return f"{first} and {len(named) - 3} more" if len(named) > 3 else first


def receipt(harvest: Harvest, verification: Verification, harvest_id: str) -> Json:
    """What is known of the shard; its archive is finished."""
    found, archive = verification.archive.count, verification.archive.newest_only()
    duplicates = found - archive.count
    evidence = Evidence(harvest, verification, archive.count + (duplicates if harvest.catalog.by_value else 0))
    archive.close()
    verification.archive = archive
    shard, covered, catalog = harvest.shard, harvest.covered, harvest.catalog
    return {
        "schema_version": RECEIPT_VERSION,
        "harvest_id": harvest_id,
        "task": os.environ.get("AZ_BATCH_TASK_ID"),
        "name": shard.name,
        "collection": shard.collection,
        "start": rfc3339(covered.start),
        "end": rfc3339(covered.end),
        "undated": shard.undated,
        "remainder": {"start": rfc3339(harvest.cut), "end": rfc3339(shard.end)} if harvest.cut else None,
        "archive": archive.seal(),
        "count": archive.count,
        "ids_hash": f"{archive.hash % 2**256:064x}",
        "min_datetime": rfc3339(archive.first),
        "max_datetime": rfc3339(archive.last),
        "pages": harvest.walk.pages,
        "throttled": catalog.throttled,
        "duplicates": duplicates,
        "dirty": archive.dirty,
        "dirty_count": archive.dirty_count,
        "unreadable": [{"id": name, "problem": why} for name, why in listed(evidence.unreadable)],
        "unreadable_count": len(evidence.unreadable),
        "foreign": [{"id": name, "collection": other} for name, other in listed(evidence.foreign)],
        "foreign_count": len(evidence.foreign),
        "uncounted": evidence.uncounted,
        "problems": evidence.problems,
        "verified": not verification.problem and not evidence.problems,
        "verification": verification.summary(),
        "asked": rfc3339(catalog.asked),
        "calls": catalog.calls,
        "bytes": archive.file.stat().st_size,
    }


def listed(named: dict[str, str]) -> list[tuple[str, str]]:
    """As many as a receipt names."""
    return list(itertools.islice(named.items(), LISTED_AT_MOST))


def harvest(shard: Shard, catalog: Catalog, storage: Storage, control: Control, blob: str) -> None:
    """Archive the shard, compare it with a second look, and publish the archive before its receipt."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        catalog.learn_dialect()
        first = Harvest(catalog, shard, Path(folder), control)
        first.run()
        verification = Verification(first)
        verification.run()
        document = receipt(first, verification, control.harvest_id)
        control.finish()
        storage.put(f"{blob}.ndjson.zst", verification.archive.file)
        storage.put(f"{blob}.receipt.json", document)
    note(f"done: {document['count']} items, verified: {document['verified']}")


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
    """Status, request id and body for a message; a token that the server repeats is left out."""
    token = answer.request.headers["Authorization"].removeprefix("Bearer ")
    request = answer.headers.get("X-Request-ID") or answer.headers.get("x-ms-request-id")
    told = f"{answer.status_code} {beginning(answer)}{f' (request {one_line(request)})' if request else ''}"
    return told.replace(token, "(token)")


def beginning(answer: requests.Response) -> str:
    """What an answer begins with; requests' own `text` looks through all of it for a character set."""
    return one_line(answer.content[:20_000].decode(errors="replace"))


def one_line(text: str) -> str:
    """Text for a message."""
    return " ".join(text.split())[:500]


def plain(text: str) -> str:
    """Text that nothing obeys instead of showing it: what a terminal would is escaped, and it stays on its line."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def note(sentence: str) -> None:
    """Tell how it goes, on standard error."""
    print(f"harvest_items: {plain(SECRET.sub('(secret)', sentence))}", file=sys.stderr, flush=True)


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
    http.client.HTTPConnection.response_class = Answer  # of azure-identity's connections, too
    logging.disable(logging.CRITICAL)  # what libraries warn of is said by `Failed`
    os.environ["NETRC"] = os.devnull  # the environment gives proxies and certificates, never credentials
    try:
        run(os.environ)
    except Failed as failed:
        note(str(failed))
        return failed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
