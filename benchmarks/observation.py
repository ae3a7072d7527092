"""Sees what the SDKs and Azure say to each other, and keeps its form only.

A record holds no value that a service or a user chose: strings become `string`, path segments that name something
become placeholders, and of headers and query parameters the names are kept. Words of a few fields that hold
enumerations, such as `provisioningState`, stay as they are. Calls without a bearer token are those that fetch one; how
the operator signs in is nobody's business and differs between machines, so they are passed over.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests

from benchmarks.shapes import Shape, shape_of
from spatiobatch.settings import Settings

_HEADERS = {
    "azure-asyncoperation", "content-type", "etag", "last-modified", "location", "retry-after", "x-ms-error-code",
    "x-ms-version",
}  # fmt: skip
_CATALOG = ("{subscription}", "{geocatalog group}", None, "{geocatalog}")
"""For each second segment of `/subscriptions/…/resourceGroups/…/providers/Microsoft.Orbital/geoCatalogs/…`."""
_TELLING_PARAMETERS = ("comp", "restype")
_CHANGING = (
    (re.compile(r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "{guid}"),
    (re.compile(r"\d{8}T\d{6}Z"), "{time}"),
    (re.compile(r"(?i)(?<![a-z0-9])[0-9a-f]{12,}(?![a-z0-9])"), "{hash}"),
    (re.compile(r"(?<=\})-\d+$"), "-{attempt}"),
)
OPERATION = "(operation)"
"""Stands in a title for the address at which a service tells how far it is."""


@dataclass(frozen=True)
class Call:
    """One request and its answer, without anything that must not be told."""

    service: str
    method: str
    url: str
    status: int
    request: Shape | None
    response: Shape | None
    """None where there is no JSON, or where the SDK reads the answer as a stream."""
    headers: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What makes two calls of two clouds the same one."""
        return f"{self.service} {self.method} {self.url}"


class Placeholders:
    """The names of one environment, and what stands for them in a record."""

    def __init__(self, settings: Settings) -> None:
        catalog = settings.geocatalog_id.split("/")
        names = {
            settings.subscription_id: "{subscription}",
            settings.resource_group: "{group}",
            settings.batch_account_name: "{account}",
            settings.storage_account_name: "{account}",
            settings.identity: "{identity}",
            settings.pool: "{pool}",
            settings.scripts_container: "{scripts}",
            settings.results_container: "{results}",
            settings.location: "{location}",
            **{name: placeholder for name, placeholder in zip(catalog[2::2], _CATALOG, strict=False) if placeholder},
        }
        self._names = {name.lower(): placeholder for name, placeholder in names.items() if name}

    def segment(self, text: str) -> str:
        """A segment of a path, with a placeholder for whatever differs between environments or runs."""
        if text.lower() in self._names:
            return self._names[text.lower()]
        for pattern, placeholder in _CHANGING:
            text = pattern.sub(placeholder, text)
        return text

    def path(self, service: str, path: str) -> str:
        """A path; the stand-in has the account in it, where Azure has it in the host name."""
        segments = [self.segment(part) for part in path.strip("/").split("/")]
        if service in ("batch", "blob") and segments[0] == "{account}":
            segments = segments[1:]
        return "/" + "/".join(segments)


class Observer:
    """Collects the calls of a pass."""

    def __init__(self, settings: Settings) -> None:
        self._placeholders = Placeholders(settings)
        self._operations: dict[str, str] = {}
        self.calls: list[Call] = []

    def see(self, request: requests.PreparedRequest, answer: requests.Response, *, streamed: bool) -> None:
        """Keep the form of one exchange."""
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            return
        service, parts = _service(request), urlsplit(request.url or "")
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
        url = self._placeholders.path(service, parts.path)
        telling = "&".join(f"{name}={parameters[name]}" for name in _TELLING_PARAMETERS if name in parameters)
        if telling:
            url += f"?{telling}"
        begun = self._operations.get(_without_query(request.url))
        call = Call(
            service=service,
            method=request.method or "",
            url=f"{OPERATION} of {begun}" if begun else url,
            status=answer.status_code,
            request=_shape(request.body, request.headers),
            response=None if streamed else _shape(answer.content, answer.headers),
            headers=sorted(name.lower() for name in answer.headers if name.lower() in _HEADERS),
            parameters=sorted(parameters),
        )
        self.calls.append(call)
        self._remember_operation(request, answer, begun or f"{call.method} {url}")

    def _remember_operation(self, request: requests.PreparedRequest, answer: requests.Response, begun: str) -> None:
        """Every provider has an address of its own for its operations: they are known by what began them."""
        location = answer.headers.get("Location") if answer.status_code == 202 else None
        for address in (answer.headers.get("Azure-AsyncOperation"), location):
            if address and _without_query(address) != _without_query(request.url):
                self._operations[_without_query(address)] = begun

    def write(self, file: Path) -> None:
        """One JSON line per call."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8") as lines:
            for call in self.calls:
                lines.write(json.dumps(asdict(call)) + "\n")


@contextmanager
def observed(settings: Settings) -> Iterator[Observer]:
    """Look on at every call that goes through `requests`, as all of the SDKs' do, and change none."""
    observer, send = Observer(settings), requests.Session.send

    def watching(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        answer = send(session, request, **options)
        observer.see(request, answer, streamed=bool(options.get("stream")))
        return answer

    requests.Session.send = watching  # type: ignore[assignment, method-assign]  # there is no hook for all sessions of a process
    try:
        yield observer
    finally:
        requests.Session.send = send  # type: ignore[method-assign]  # as above


def _service(request: requests.PreparedRequest) -> str:
    """Which service is meant, told by the form of the call: addresses differ between clouds."""
    if "x-ms-version" in request.headers:
        return "blob"
    path = urlsplit(request.url or "").path.lower()
    return "arm" if path.startswith(("/subscriptions/", "/providers/")) else "batch"


def _without_query(url: str | None) -> str:
    return (url or "").split("?")[0].lower()


def _shape(body: Any, headers: Mapping[str, str]) -> Shape | None:
    if not isinstance(body, bytes | str) or not body or "json" not in headers.get("Content-Type", ""):
        return None
    try:
        return shape_of(json.loads(body))
    except ValueError:
        return None  # a torn answer is the SDK's to judge
