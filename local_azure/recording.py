"""`--record FILE`: one JSON line per request, without secrets."""

import gzip
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SIGNATURE = re.compile(r"(?i)\b(sig=)[^&\s\"'<>\\]+")
_XML_SECRET = re.compile(r"(<Value>)[^<]+(</Value>)")
_FORM_SECRET = re.compile(r"(?i)\b((?:client_secret|client_assertion|refresh_token|assertion)=)[^&\s]+")
_ACCOUNT_KEY = re.compile(r"(?i)\b(AccountKey=)[^;\s\"]+")
_TOKEN = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+")
_SECRET_FIELDS = {"access_token", "refresh_token", "id_token", "client_secret", "secretText", "primary", "secondary"}
_LARGEST_BODY = 4 * 2**20


def redact(text: str) -> str:
    """The text without SAS signatures, keys, tokens and client secrets."""
    for pattern in (_SIGNATURE, _FORM_SECRET, _ACCOUNT_KEY):
        text = pattern.sub(r"\1REDACTED", text)
    return _TOKEN.sub("REDACTED", _XML_SECRET.sub(r"\1REDACTED\2", text))


class RecordingMiddleware:
    """Appends what one service is asked and what it answers to a file."""

    def __init__(self, app: ASGIApp, service: str, root: str, file: Path) -> None:
        self._app = app
        self._service = service
        self._root = root
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and write its line when it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked, answered = bytearray(), bytearray()
        answer: dict[str, Any] = {"status": None, "type": "", "encoding": ""}

        async def listen() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def speak(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
                headers = dict(message["headers"])
                answer["type"] = headers.get(b"content-type", b"").decode()
                answer["encoding"] = headers.get(b"content-encoding", b"").decode()
            else:
                answered.extend(message.get("body", b""))
            await send(message)

        began = datetime.fromtimestamp(time.time(), UTC)
        try:
            await self._app(scope, listen, speak)
        finally:
            headers = {name.decode(): redact(value.decode("latin-1")) for name, value in scope["headers"]}
            query = scope["query_string"].decode()
            self._write(
                {
                    "time": began.isoformat(timespec="microseconds").replace("+00:00", "Z"),
                    "service": self._service,
                    "method": scope["method"],
                    "url": redact(self._root + scope["raw_path"].decode() + (f"?{query}" if query else "")),
                    "headers": {name: value for name, value in headers.items() if name != "authorization"},
                    "request_body": _readable(bytes(asked), headers.get("content-type", "")),
                    "response_body": _readable(_plain(bytes(answered), answer["encoding"]), answer["type"]),
                    "status": answer["status"],
                }
            )

    def _write(self, line: dict[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _plain(body: bytes, encoding: str) -> bytes:
    """The body as it was before it was compressed."""
    return gzip.decompress(body) if encoding == "gzip" else body


def _readable(body: bytes, content_type: str) -> Any:
    """Parsed JSON, text, or `{"bytes": n}`; None where there was no body."""
    if not body:
        return None
    if len(body) > _LARGEST_BODY or not re.search(r"json|text|xml|urlencoded", content_type):
        return {"bytes": len(body)}
    try:
        text = body.decode()
        return _without_secrets(json.loads(text)) if "json" in content_type else redact(text)
    except ValueError:
        return {"bytes": len(body)}


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        keyed = "keyName" in value
        return {
            name: "REDACTED"
            if isinstance(inner, str) and (name in _SECRET_FIELDS or (keyed and name == "value"))
            else _without_secrets(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return redact(value) if isinstance(value, str) else value
