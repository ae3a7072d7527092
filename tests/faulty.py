"""Servers of the node scripts' tests that break requests as `local_azure --fault` does."""

import io
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

S = TypeVar("S", bound=ThreadingHTTPServer)

HANG_SECONDS = 3
"""Longer than any test lets a script wait for an answer."""


class Faulty(BaseHTTPRequestHandler):
    """A handler whose server may have `faults`: pattern of `METHOD path` and what becomes of it, each used once."""

    def parse_request(self) -> bool:
        """Break the request if a fault is due, or leave it to its method."""
        if not super().parse_request():
            return False
        faults: list[tuple[str, str]] = getattr(self.server, "faults", [])
        due = next((fault for fault in faults if re.search(fault[0], f"{self.command} {self.path}")), None)
        if due is None:
            return True
        faults.remove(due)
        self.close_connection = True
        self._break(due[1])
        return False

    def _break(self, fault: str) -> None:
        if fault == "truncate":
            return self._truncate()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault == "hang":
            time.sleep(HANG_SECONDS)
        elif fault != "drop":
            self.send_response(int(fault))
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "14")
            self.end_headers()
            self.wfile.write(b"injected fault")
        return None

    def _truncate(self) -> None:
        """Do what was asked, and send half of the answer's body; of an answer without one, nothing."""
        wire, self.wfile = self.wfile, io.BytesIO()
        getattr(self, f"do_{self.command}")()
        head, _, body = self.wfile.getvalue().partition(b"\r\n\r\n")
        self.wfile = wire
        if half := body[: len(body) // 2]:
            self.wfile.write(head + b"\r\n\r\n" + half)
        self.close_connection = True


@contextmanager
def running(server: S) -> Iterator[S]:
    """A server in a thread of its own."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
