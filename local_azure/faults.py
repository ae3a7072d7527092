r"""Faults on request: `--fault` specifications and the middleware that carries them out.

A specification is comma-separated `key=value`; a comma inside `path` is written `\x2c`. The first
that matches a request wins.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("local_azure.faults")

SERVICES = ("arm", "identity", "batch", "blob", "geocatalog", "node", "task")
REQUEST_ACTIONS = ("drop", "hang", "truncate")
NODE_ACTIONS = ("kill", "preempt")
_ACTIONS = {"node": NODE_ACTIONS, "task": ()}
"""A fault of service `task` is how Batch answers for one task of a collection that is added."""


class FaultSpecError(ValueError):
    """A `--fault` specification that cannot be understood; its text says what to write."""


@dataclass
class Fault:
    """One fault, and how often it has still to let pass or strike."""

    service: str
    """Which service it strikes, one of `SERVICES`."""
    method: str = ""
    """HTTP method; any where empty."""
    path: str = ""
    """`re.search` on the path without query; for a node or a task on `job/task`."""
    status: int = 0
    """Answer with this HTTP status."""
    action: str = ""
    """`drop` or `hang` a request, `truncate` its answer; `kill` a task's process or `preempt` its node."""
    after: int = 0
    """How many matching requests pass first."""
    times: float = 1
    """How many it then strikes; `inf` for all."""
    retry_after: int | None = None
    """`Retry-After` in whole seconds."""
    delay: float = 0
    """Seconds after the task's start, for `kill` and `preempt`."""
    _seen: int = field(default=0, repr=False)

    def strikes(self, service: str, method: str, path: str) -> bool:
        """Whether this is the request to break; counts it when it matches."""
        if service != self.service or self.method not in ("", method.upper()) or not re.search(self.path, path):
            return False
        self._seen += 1
        return self.after < self._seen <= self.after + self.times


def parse_fault(text: str) -> Fault:
    r"""The fault that `service=batch,path=/jobs,status=503,times=2` describes.

    Raises:
        FaultSpecError: unknown key or service, a value of the wrong kind, or not exactly one of
            `status` and `action`.
    """
    known = {f.name: f.type for f in fields(Fault) if not f.name.startswith("_")}
    values: dict[str, object] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or key not in known or key in values:
            raise FaultSpecError(f"fault {text!r}: {part!r} is not one key=value of {', '.join(known)}")
        values[key] = _value(text, key, value)
    if values.get("service") not in SERVICES:
        raise FaultSpecError(f"fault {text!r}: service must be one of {', '.join(SERVICES)}")
    if ("status" in values) == ("action" in values):
        raise FaultSpecError(f"fault {text!r}: give exactly one of status and action")
    actions = _ACTIONS.get(str(values["service"]), REQUEST_ACTIONS)
    if ("action" in values and values["action"] not in actions) or (values["service"] == "node" and "status" in values):
        takes = f"action={'|'.join(actions)}" if actions else "status"
        raise FaultSpecError(f"fault {text!r}: a fault of {values['service']} takes {takes}")
    return Fault(**values)  # type: ignore[arg-type]  # every value was converted by its key


def _value(text: str, key: str, value: str) -> object:
    try:
        return _CONVERTERS.get(key, str)(value)
    except (ValueError, re.error) as error:
        raise FaultSpecError(f"fault {text!r}: {value!r} is no value for {key}") from error


def _status(value: str) -> int:
    if not 100 <= int(value) <= 599:
        raise ValueError
    return int(value)


def _count(value: str) -> int:
    if not value.isdecimal():
        raise ValueError
    return int(value)


def _times(value: str) -> float:
    return float("inf") if value == "inf" else _count(value)


def _seconds(value: str) -> float:
    if not 0 <= float(value) < float("inf"):
        raise ValueError
    return float(value)


def _pattern(value: str) -> str:
    return re.compile(value).pattern


_CONVERTERS: dict[str, Callable[[str], object]] = {
    "method": str.upper,
    "path": _pattern,
    "status": _status,
    "after": _count,
    "times": _times,
    "retry_after": _count,
    "delay": _seconds,
}


class Faults:
    """All faults of this run, in the order given."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = list(faults)

    def strike(self, service: str, method: str, path: str) -> Fault | None:
        """The first fault that strikes this request, or this `job/task` on a node."""
        struck = next((fault for fault in self._faults if fault.strikes(service, method, path)), None)
        if struck:
            logger.info("struck %s %s %s: %s", service, method or "-", path, struck.action or struck.status)
        return struck


class FaultMiddleware:
    """Breaks the requests of one service as told."""

    def __init__(self, app: ASGIApp, service: str, faults: Faults) -> None:
        self._app = app
        self._service = service
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or break it."""
        fault = scope["type"] == "http" and self._faults.strike(self._service, scope["method"], scope["path"])
        if not fault:
            await self._app(scope, receive, send)
        elif fault.status:
            await _answer(fault, send)
        elif fault.action == "truncate":
            await self._truncated(scope, receive, send)
        else:
            if fault.action == "hang":
                await _client_gone(receive)
            scope["state"]["connection"].transport.abort()

    async def _truncated(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the operation happen, send half the body under the whole one's length, then cut the connection.

        Of an answer without body nothing is sent, since its status alone would be the whole of it: the client sees a
        connection that was closed, and cannot tell that what it asked for was done.
        """
        start: Message = {}
        body = b""

        async def collect(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
            else:
                body += message.get("body", b"")

        await self._app(scope, receive, collect)
        half = b"" if scope["method"] == "HEAD" else body[: len(body) // 2]
        if half:
            headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": half, "more_body": True})
            await asyncio.sleep(0.05)
        scope["state"]["connection"].transport.abort()


async def _answer(fault: Fault, send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"14")]
    if fault.retry_after is not None:
        headers.append((b"retry-after", str(fault.retry_after).encode()))
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"injected fault"})


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
