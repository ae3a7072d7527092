"""List every collection of a GeoCatalog, as one JSON document on standard output.

Runs alone on a Batch node; needs `requests` and `azure-identity`. Environment: `GEOCATALOG_URL` (without /stac),
`GEOCATALOG_API_VERSION`, `AZURE_CLIENT_ID` (the node identity's) and, where it is not the public cloud's,
`GEOCATALOG_SCOPE`; `READ_TIMEOUT_SECONDS`, within which an answer has to be here as a whole, 60 by default. Prints
`{"collections": [...]}`, each collection as the text that the service sent, readable or not; on failure nothing but a
sentence on standard error.

What a service sends is bounded: an answer and the whole list by `MOST_BYTES`, all pages by `DEADLINE_SECONDS`, pages
that bring nothing new by `BARREN_PAGES`.

Exit codes: 0 done; 2 the environment is incomplete or wrong; 3 the node got no token; 4 the GeoCatalog refused it
(401, 403); 5 the answer is none that a STAC catalog gives; 6 out of reach, or unavailable after all attempts.
"""

import email.utils
import http.client
import io
import json
import logging
import os
import random
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential

CONFIGURATION, NO_TOKEN, REFUSED, UNEXPECTED, UNAVAILABLE = 2, 3, 4, 5, 6
REQUIRED = ("GEOCATALOG_URL", "GEOCATALOG_API_VERSION", "AZURE_CLIENT_ID")
ADDRESS = re.compile(r"(https://[\w.-]+|http://(localhost|127\.0\.0\.1))(:\d+)?(/[^\s@?#\\]*)?")
TRANSIENT = {408, 429, 500, 502, 503, 504}
ATTEMPTS, DRIPPING_ATTEMPTS, TOKEN_ATTEMPTS = 10, 3, 4
DEADLINE_SECONDS = 900
MOST_BYTES = 64 << 20
"""The public Planetary Computer's 130 collections come to less than 4 MB."""
BARREN_PAGES = 20
MOST_SAID = 2000
"""Characters of a message."""
READ_SECONDS = float(os.environ.get("READ_TIMEOUT_SECONDS", "60"))
CONNECT_AND_READ_SECONDS = (10, READ_SECONDS)
SECRET = re.compile(r"(?i:(?<=\bsig=))[^&\s\"'<>\\]+|\beyJ[\w-]{8,}(\.[\w-]*)*|(?<=://)[^/\s]+(?=@)")
"""Signature of a SAS, access token, user info: services repeat what they were sent."""
ADVICE = {
    401: "the token of the node identity {client_id} is not accepted, not even a new one; check GEOCATALOG_SCOPE",
    403: "the node identity {client_id} may not read {root}; assign it the role GeoCatalog Reader (or GeoCatalog "
    "Administrator) on that GeoCatalog and wait up to ten minutes",
    404: "there is no STAC API; check GEOCATALOG_URL, which ends before /stac",
}
OTHERWISE = "this is none of a STAC catalog's answers; check GEOCATALOG_URL and GEOCATALOG_API_VERSION"


class Failed(Exception):
    """The run cannot go on: an exit code, and the sentence to say."""

    def __init__(self, exit_code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Oversized(Exception):
    """An answer that is longer than any that is expected; it would be again."""


class Dripping(Exception):
    """An answer that began and did not come to its end in time."""


class Wire(io.RawIOBase):
    """What comes in as one answer: `requests` has a timeout for every piece, and urllib3 reads lines of any length."""

    def __init__(self, connection: socket.socket, raw: io.RawIOBase) -> None:
        self.connection, self.raw = connection, raw
        self.deadline, self.size = time.monotonic() + READ_SECONDS, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next piece, if there is time and room for it."""
        left = self.deadline - time.monotonic()
        self.connection.settimeout(max(0.001, left))
        try:
            size = self.raw.readinto(buffer) if left > 0 else None
        except TimeoutError:
            if not self.size:
                raise
            size = None
        if size is None:
            raise Dripping(f"after {READ_SECONDS:g} s the answer was not at its end, {self.size} bytes had come")
        self.size += size
        if self.size > MOST_BYTES:
            raise Oversized(f"the answer is longer than {MOST_BYTES} bytes")
        return size

    def close(self) -> None:
        """Let go of the connection."""
        self.raw.close()
        super().close()


class Answer(http.client.HTTPResponse):
    """An answer that is read from a `Wire`."""

    def __init__(self, connection: socket.socket, *arguments: Any, **keywords: Any) -> None:
        super().__init__(connection, *arguments, **keywords)
        self.fp = io.BufferedReader(Wire(connection, self.fp.detach()))

    def begin(self) -> None:
        """Read the headers; http.client takes a hundred, of 64 KiB each."""
        try:
            super().begin()
        except http.client.BadStatusLine:
            raise  # the connection broke
        except http.client.HTTPException as error:
            raise Oversized(f"the headers of the answer are none that a service sends: {error}") from None


def limit_body(answer: requests.Response, **_: Any) -> None:
    """Stop at a body that is too long once it is decompressed; a hook of a session."""
    whole = answer.raw.stream

    def counted(*arguments: Any, **keywords: Any) -> Iterator[bytes]:
        size = 0
        for piece in whole(*arguments, **keywords):
            size += len(piece)
            if size > MOST_BYTES:
                raise Oversized(f"the answer is longer than {MOST_BYTES} bytes when it is decompressed")
            yield piece

    answer.raw.stream = counted


class Session(requests.Session):
    """Follows no redirect, nor looks at where it leads."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: a redirect is an answer like others."""


class Tokens(requests.auth.AuthBase):
    """Signs requests; azure-identity keeps the token and replaces it before it expires."""

    def __init__(self, scope: str, client_id: str) -> None:
        self.scope, self.client_id = scope, client_id
        self.renew()

    def renew(self) -> None:
        """Forget the token, and that the identity endpoint throttled us: MSAL remembers both."""
        self.credential = DefaultAzureCredential(read_timeout=READ_SECONDS)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add a valid token; tried again because identity endpoints answer 429 when a whole node asks at once."""
        for attempt in range(1, TOKEN_ATTEMPTS + 1):
            try:
                request.headers["Authorization"] = f"Bearer {self.credential.get_token(self.scope).token}"
                return request
            except ClientAuthenticationError as error:
                problem = one_line(str(error))
            time.sleep(backoff(attempt))
            self.renew()
        advice = f"check that the pool has the user-assigned identity with client id {self.client_id}"
        raise Failed(NO_TOKEN, f"no token for {self.scope}: {advice}. azure-identity said: {problem}")


class GeoCatalog:
    """Asks until there is a page, or a reason to give up."""

    def __init__(self, root: str, tokens: Tokens) -> None:
        self.root, self.tokens = root, tokens
        self.session = Session()
        self.session.auth = tokens
        self.session.hooks["response"].append(limit_body)
        self.deadline = time.monotonic() + DEADLINE_SECONDS

    def get(self, url: str) -> bytes:
        """The body of a 200; a 401 renews the token once."""
        answer = self.settled_answer(url)
        if answer.status_code == 401:
            self.tokens.renew()
            answer = self.settled_answer(url)
        if answer.status_code == 200:
            return answer.content
        advice = ADVICE.get(answer.status_code, OTHERWISE).format(client_id=self.tokens.client_id, root=self.root)
        exit_code = REFUSED if answer.status_code in (401, 403) else UNEXPECTED
        raise Failed(exit_code, f"GET {url}: {advice}. It answered {said(answer)}")

    def settled_answer(self, url: str) -> requests.Response:
        """The first answer that is not transient. urllib3's Retry covers neither torn bodies nor a deadline."""
        for attempt in range(1, ATTEMPTS + 1):
            wait, most = backoff(attempt), ATTEMPTS
            try:
                answer = self.session.get(url, timeout=CONNECT_AND_READ_SECONDS, allow_redirects=False)
                if answer.status_code not in TRANSIENT:
                    return answer
                problem = said(answer)
                wait = max(wait, retry_after(answer.headers))
            except Dripping as error:
                problem, most = str(error), DRIPPING_ATTEMPTS
            except (Oversized, ValueError) as error:
                raise Failed(UNEXPECTED, f"GET {url}: {one_line(str(error))}; check GEOCATALOG_URL") from None
            except requests.RequestException as error:
                problem = one_line(str(getattr(error.args[0], "reason", error)) if error.args else repr(error))
            untrusted = "CERTIFICATE_VERIFY_FAILED" in problem
            if untrusted or attempt >= most or time.monotonic() + wait > self.deadline:
                break
            note(f"attempt {attempt} of {most}, the next in {wait:.1f} s: {problem}")
            time.sleep(wait)
        advice = "check the address and REQUESTS_CA_BUNDLE" if untrusted else "check the network or run it again later"
        raise Failed(UNAVAILABLE, f"GET {url} failed after {attempt} of {most} attempts; {advice}: {problem}")


@dataclass
class Listing:
    """The collections that came so far."""

    found: dict[str, str] = field(default_factory=dict)
    """Their texts by id; what has none stands for itself."""
    pages: int = 0
    size: int = 0
    """Bytes of its pages."""
    counted: int = 0
    """Entries, without those that an earlier page had."""
    matched: float = 0
    """How many there are, as the last page says."""
    barren: int = 0
    """Pages in a row that brought nothing new."""

    def add(self, body: bytes, url: str) -> dict[str, Any]:
        """Take in a page; a collection that comes twice (the catalog changed meanwhile) counts as it came last."""
        text, page = read_page(body, url)
        entries = [
            (named(entry, raw), raw) for entry, raw in zip(page["collections"], raw_collections(text), strict=True)
        ]
        fresh = [name for name, _ in entries if name not in self.found]
        for name, raw in entries:
            if self.found.setdefault(name, raw) != raw:
                note(f"collection {name} came again; the later one is kept")
            self.found[name] = raw
        self.pages, self.size, self.counted = self.pages + 1, self.size + len(body), self.counted + len(fresh)
        self.barren = 0 if fresh else self.barren + 1
        matched = page.get("numberMatched")
        self.matched = matched if isinstance(matched, float) else 0
        note(f"page {self.pages}: {len(entries)} collections")
        return page

    def check(self, deadline: float) -> None:
        """Pass a list that may go on."""
        if self.size > MOST_BYTES:
            raise Failed(UNEXPECTED, f"the list of collections is longer than {MOST_BYTES} bytes; check GEOCATALOG_URL")
        if self.barren >= BARREN_PAGES:
            problem = f"the last {self.barren} pages of the list of collections brought nothing new"
            raise Failed(UNEXPECTED, f"{problem}, and there is another; check GEOCATALOG_URL")
        if time.monotonic() > deadline:
            problem = f"after {self.pages} pages and {DEADLINE_SECONDS} s the list of collections is not at its end"
            raise Failed(UNAVAILABLE, f"{problem}; run it again later")


def named(entry: dict[str, Any], raw: str) -> str:
    """What tells a collection from others."""
    return entry["id"] if isinstance(entry.get("id"), str) else raw


def read_page(body: bytes, url: str) -> tuple[str, dict[str, Any]]:
    """The page as text and parsed, if it is a list of objects; whether they are STAC's is judged where they are used.

    Numbers are of no interest and may be of any length; what is no UTF-8 costs no other collection.
    """
    try:
        text = body.decode("utf-8-sig", "surrogateescape")
        page = json.loads(text, strict=False, parse_int=float)
        entries = page["collections"]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        what = one_line(body.decode(errors="replace"))
        raise Failed(UNEXPECTED, f"GET {url} did not answer with a STAC list of collections, but: {what}") from None
    return text, page


def raw_collections(text: str) -> Iterator[str]:
    """The entries of a checked page as the text that was sent: parsing would rewrite numbers."""
    decode, token = json.JSONDecoder(strict=False, parse_int=float).raw_decode, re.compile(r"[^\s,:]")

    def skip(position: int) -> int:
        return token.search(text, position).start()  # type: ignore[union-attr]  # the page is valid JSON

    position, start = skip(text.index("{") + 1), 0
    while text[position] != "}":
        name, end = decode(text, position)
        start = skip(end) if name == "collections" else start  # of two, the last counts, as it does in `json`
        position = skip(decode(text, skip(end))[1])
    position = skip(start + 1)
    while text[position] != "]":
        end = decode(text, position)[1]
        yield text[position:end]
        position = skip(end)


def next_url(page: dict[str, Any], url: str, api_version: str) -> str | None:
    """Where the next page is; a token goes nowhere but to the server that it is for."""
    try:
        hrefs = [link["href"] for link in page.get("links") or [] if link.get("rel") == "next"]
        following = urldefrag(urljoin(url, hrefs[0])).url if hrefs else None
    except (AttributeError, TypeError, KeyError, ValueError):
        raise Failed(UNEXPECTED, f"GET {url} answered with links that are none of STAC's") from None
    if following is None:
        return None
    if origin(following) != origin(url):
        raise Failed(UNEXPECTED, f"the next link of {url} leads to another server, {following}; it is not followed")
    for name, value in (("api-version", api_version), ("sign", "false")):
        if not re.search(rf"[?&]{name}=", following):
            following = f"{following}{'&' if '?' in following else '?'}{name}={value}"
    return following


def origin(url: str) -> tuple[str, str]:
    """Scheme and authority. Compared as text, so that user names and odd host spellings never match."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower().removesuffix({"https": ":443", "http": ":80"}.get(parts.scheme, ":"))


def list_collections(catalog: GeoCatalog, api_version: str) -> list[str]:
    """All collections; where fewer came than the catalog counts, they are asked for once more, in one page.

    A catalog may change between two pages, and a service may have a page size without a next link.
    """
    # Unsigned: the SAS of an asset would get into the archive.
    # https://learn.microsoft.com/dotnet/api/azure.analytics.planetarycomputer.stacclient.getcollections
    first = f"{catalog.root}/stac/collections?api-version={api_version}&sign=false"
    listing = every_page(catalog, first, api_version)
    if listing.matched > listing.counted:
        note(f"{listing.counted} collections came and numberMatched is {listing.matched:.0f}; they are asked for again")
        listing = every_page(catalog, f"{first}&limit={listing.matched:.0f}", api_version)
    if listing.matched > listing.counted:
        problem = (
            f"{listing.counted} collections came and numberMatched is {listing.matched:.0f}, also when asked again"
        )
        raise Failed(UNEXPECTED, f"GET {first}: {problem}; run it again later, or have the GeoCatalog looked after")
    return list(listing.found.values())


def every_page(catalog: GeoCatalog, url: str, api_version: str) -> Listing:
    """Follow the next links to the last page."""
    listing, seen = Listing(), set[str]()
    following: str | None = url
    while following:
        if following in seen:
            raise Failed(UNEXPECTED, f"the pages of the GeoCatalog run in a circle: {following} came before")
        listing.check(catalog.deadline)
        seen.add(following)
        page = listing.add(catalog.get(following), following)
        following = next_url(page, following, api_version)
    return listing


def backoff(attempt: int) -> float:
    """Seconds to wait after that attempt: 250 ms, doubling to 90 s, half of it at random."""
    longest = min(90.0, 0.25 * 2**attempt)
    return random.uniform(longest / 2, longest)  # noqa: S311  # it spreads load and guards nothing


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that Retry-After asks for: a number, or a date by the server's clock (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdecimal():
        return float(value)
    moment = seconds_of(value)
    return moment - (seconds_of(headers.get("Date", "")) or time.time()) if moment else 0.0


def seconds_of(date: str) -> float | None:
    """The moment that a header names, in seconds since 1970."""
    parts = email.utils.parsedate_tz(date)
    try:
        return email.utils.mktime_tz(parts) if parts else None
    except (ValueError, OverflowError):
        return None


def said(answer: requests.Response) -> str:
    """Status and body for a message; a token that the server repeats is left out."""
    token = answer.request.headers["Authorization"].removeprefix("Bearer ")
    return f"{answer.status_code} {one_line(answer.content.decode(errors='replace').replace(token, '(token)'))}"


def one_line(text: str) -> str:
    """Text for a message, with nothing in it that a terminal would obey."""
    return " ".join("".join(each if each.isprintable() else " " for each in text[: 10 * MOST_SAID]).split())[:500]


def plain(text: str) -> str:
    """Text that nothing obeys instead of showing it: what a terminal would is escaped, and it stays on its line."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def note(sentence: str) -> None:
    """Tell how it goes, on standard error."""
    print(f"list_collections: {plain(SECRET.sub('(secret)', sentence))[:MOST_SAID]}", file=sys.stderr, flush=True)


def catalog_from(environment: Mapping[str, str]) -> GeoCatalog:
    """The GeoCatalog that the environment names."""
    missing = [name for name in REQUIRED if not environment.get(name)]
    if missing:
        raise Failed(CONFIGURATION, f"{', '.join(missing)} not set; set what the head of this script lists")
    root = environment["GEOCATALOG_URL"].rstrip("/")
    if not ADDRESS.fullmatch(root):
        raise Failed(CONFIGURATION, f"GEOCATALOG_URL must be an https address without user or query, not {root!r}")
    scope = environment.get("GEOCATALOG_SCOPE") or "https://geocatalog.spatio.azure.com/.default"
    return GeoCatalog(root, Tokens(scope, environment["AZURE_CLIENT_ID"]))


def main() -> int:
    """Print the collections; the exit code tells why that failed."""
    logging.disable(logging.CRITICAL)  # what azure-identity and urllib3 warn of is said by `Failed`
    os.environ["NETRC"] = os.devnull  # whose passwords requests would send instead of the token
    http.client.HTTPConnection.response_class = Answer
    try:
        collections = list_collections(catalog_from(os.environ), os.environ["GEOCATALOG_API_VERSION"])
    except Failed as failed:
        note(str(failed))
        return failed.exit_code
    document = '{"collections": [' + ",\n".join(collections) + "]}\n"
    sys.stdout.buffer.write(document.encode(errors="surrogateescape"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
