"""List every collection of a GeoCatalog, as one JSON document on standard output.

Runs alone on a Batch node; needs `requests` and `azure-identity`. Environment: `GEOCATALOG_URL` (without /stac),
`GEOCATALOG_API_VERSION`, `AZURE_CLIENT_ID` (the node identity's) and, where it is not the public cloud's,
`GEOCATALOG_SCOPE`; `READ_TIMEOUT_SECONDS`, 60 by default. Prints `{"collections": [...]}`, each collection as the
text that the service sent; on failure nothing but a sentence on standard error.

Exit codes: 0 done; 2 the environment is incomplete or wrong; 3 the node got no token; 4 the GeoCatalog refused it
(401, 403); 5 the answer is none that a STAC catalog gives; 6 out of reach, or unavailable after all attempts.
"""

import email.utils
import json
import logging
import os
import random
import re
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential

CONFIGURATION, NO_TOKEN, REFUSED, UNEXPECTED, UNAVAILABLE = 2, 3, 4, 5, 6
REQUIRED = ("GEOCATALOG_URL", "GEOCATALOG_API_VERSION", "AZURE_CLIENT_ID")
ADDRESS = re.compile(r"(https://[\w.-]+|http://(localhost|127\.0\.0\.1))(:\d+)?(/[^\s@?#\\]*)?")
TRANSIENT = {408, 429, 500, 502, 503, 504}
ATTEMPTS = 10
TOKEN_ATTEMPTS = 4
DEADLINE_SECONDS = 900
READ_SECONDS = float(os.environ.get("READ_TIMEOUT_SECONDS", "60"))
CONNECT_AND_READ_SECONDS = (10, READ_SECONDS)
SECRET = re.compile(r"(?i:(?<=\bsig=))[^&\s\"'<>\\]+|\beyJ[\w-]{8,}(\.[\w-]*)*")
"""Signature of a SAS and access token: services repeat what they were sent."""
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
        self.session = requests.Session()
        self.session.auth = tokens
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
            wait = backoff(attempt)
            try:
                answer = self.session.get(url, timeout=CONNECT_AND_READ_SECONDS, allow_redirects=False)
                if answer.status_code not in TRANSIENT:
                    return answer
                problem = said(answer)
                wait = max(wait, retry_after(answer.headers))
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem = one_line(str(getattr(error.args[0], "reason", error)) if error.args else repr(error))
            untrusted = "CERTIFICATE_VERIFY_FAILED" in problem
            if untrusted or attempt == ATTEMPTS or time.monotonic() + wait > self.deadline:
                break
            note(f"attempt {attempt} of {ATTEMPTS}, the next in {wait:.1f} s: {problem}")
            time.sleep(wait)
        advice = "check the address and REQUESTS_CA_BUNDLE" if untrusted else "check the network or run it again later"
        raise Failed(UNAVAILABLE, f"GET {url} failed after {attempt} of {ATTEMPTS} attempts; {advice}: {problem}")


def read_page(body: bytes, url: str) -> tuple[str, dict[str, Any]]:
    """The page as text and parsed, if it is a STAC list of collections."""
    try:
        text = body.decode("utf-8-sig")
        page = json.loads(text)
        if not isinstance(page["collections"], list):
            raise ValueError
        for entry in page["collections"]:
            if entry["type"] != "Collection" or not isinstance(entry["id"], str):
                raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        what = one_line(body.decode(errors="replace"))
        raise Failed(UNEXPECTED, f"GET {url} did not answer with a STAC list of collections, but: {what}") from None
    return text, page


def raw_collections(text: str) -> Iterator[str]:
    """The entries of a checked page as the text that was sent: parsing would rewrite numbers."""
    decode, token = json.JSONDecoder().raw_decode, re.compile(r"[^\s,:]")

    def skip(position: int) -> int:
        return token.search(text, position).start()  # type: ignore[union-attr]  # the page is valid JSON

    position = skip(text.index("{") + 1)
    while (key := decode(text, position))[0] != "collections":
        position = skip(decode(text, skip(key[1]))[1])
    position = skip(text.index("[", key[1]) + 1)
    while text[position] != "]":
        end = decode(text, position)[1]
        yield text[position:end]
        position = skip(end)


def next_url(page: dict[str, Any], url: str, api_version: str) -> str | None:
    """Where the next page is; a token goes nowhere but to the server that it is for."""
    try:
        hrefs = [str(link["href"]) for link in page.get("links") or [] if link.get("rel") == "next"]
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
    """Follow every page; a collection that comes twice (the catalog changed meanwhile) counts as it came last."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    # Unsigned: the SAS of an asset would get into the archive.
    # https://learn.microsoft.com/dotnet/api/azure.analytics.planetarycomputer.stacclient.getcollections
    url: str | None = f"{catalog.root}/stac/collections?api-version={api_version}&sign=false"
    while url:
        if url in seen:
            raise Failed(UNEXPECTED, f"the pages of the GeoCatalog run in a circle: {url} came before")
        seen.add(url)
        text, page = read_page(catalog.get(url), url)
        note(f"page {len(seen)}: {len(page['collections'])} collections")
        for entry, raw in zip(page["collections"], raw_collections(text), strict=True):
            if entry["id"] in found:
                note(f"collection {entry['id']} came again; the later one is kept")
            found[entry["id"]] = raw
        url = next_url(page, url, api_version)
    return list(found.values())


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
    return f"{answer.status_code} {one_line(answer.text.replace(token, '(token)'))}"


def one_line(text: str) -> str:
    """Text for a message."""
    return " ".join(text.split())[:500]


def plain(text: str) -> str:
    """Text that nothing obeys instead of showing it: what a terminal would is escaped, and it stays on its line."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def note(sentence: str) -> None:
    """Tell how it goes, on standard error."""
    print(f"list_collections: {plain(SECRET.sub('(secret)', sentence))}", file=sys.stderr, flush=True)


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
    logging.getLogger("azure").setLevel(logging.CRITICAL)  # what it warns of is said by `Failed`
    try:
        collections = list_collections(catalog_from(os.environ), os.environ["GEOCATALOG_API_VERSION"])
    except Failed as failed:
        note(str(failed))
        return failed.exit_code
    sys.stdout.buffer.write(('{"collections": [' + ",\n".join(collections) + "]}\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
