"""The item script: an answer has an end, in time, on the wire and decompressed."""

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stac_stub import Page, Server, harvest, item, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.catalog.bodies = [item(n) for n in range(12)]
        yield running


Send = Callable[[socket.socket], None]


def drip(connection: socket.socket) -> None:
    """A body of which a byte comes every now and then."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{")
    slowly(connection, b" ")


def drip_headers(connection: socket.socket) -> None:
    """Headers that never end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    slowly(connection, b"a")


def slowly(connection: socket.socket, piece: bytes) -> None:
    """Send until nobody listens, for 20 seconds at most."""
    for _ in range(100):
        connection.sendall(piece)
        time.sleep(0.2)


def many_headers(connection: socket.socket) -> None:
    """More headers than any service sends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 5000 + b"Content-Length: 2\r\n\r\n{}")


def compressed(megabytes: int) -> bytes:
    """So many megabytes of spaces, as one member of gzip."""
    stream = zlib.compressobj(9, wbits=31)
    return b"".join(stream.compress(b" " * (1 << 20)) for _ in range(megabytes)) + stream.flush()


BOMB, SLOW_BOMB = compressed(300), gzip.compress(b" " * (1 << 20)) * 300
"""Some hundred kilobytes that become 300 MB."""


def bomb(connection: socket.socket, body: bytes = BOMB) -> None:
    """A body that is small only as it comes."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def slow_bomb(connection: socket.socket) -> None:
    """One in many members, which urllib3 decompresses in a time that grows with their square."""
    bomb(connection, SLOW_BOMB)


class Hostile:
    """A server of which every connection gets the same treatment."""

    def __init__(self, send: Send) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.send, self.met = send, 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        """Treat each connection."""
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.met += 1
            threading.Thread(target=self.treat, args=[connection], daemon=True).start()

    def treat(self, connection: socket.socket) -> None:
        """Read a little, and send."""
        with connection:
            try:
                connection.recv(1 << 16)
                self.send(connection)
            except OSError:
                return


@pytest.mark.parametrize(
    ("send", "seconds", "exit_code", "word", "most"),
    [
        (drip, 0.5, 6, "was not at its end", 10),
        (drip_headers, 0.5, 6, "was not at its end", 10),
        (many_headers, 20, 5, "headers", 1),
        (bomb, 20, 5, "when it is decompressed", 1),
        (slow_bomb, 0.1, 6, "was not decompressed", 10),
    ],
)
def test_an_answer_without_an_end_ends_in_one_sentence(
    server: Server, tmp_path: Path, send: Send, seconds: float, exit_code: int, word: str, most: int
) -> None:
    hostile, began = Hostile(send), time.monotonic()
    variables = {"GEOCATALOG_URL": hostile.origin, "READ_TIMEOUT_SECONDS": str(seconds)}
    finished = harvest(server, tmp_path, variables).finished
    hostile.listening.close()
    assert finished.returncode == exit_code, finished.stderr
    assert word in finished.stderr.splitlines()[-1]
    assert hostile.met <= most
    assert time.monotonic() - began < 60


def test_pages_that_are_too_large_become_smaller(server: Server, tmp_path: Path) -> None:
    def swell(page: Page) -> None:
        if page.query["limit"] > 3:
            page.bodies.append(b" " * (257 << 20) + item(99))

    server.catalog.twist = swell
    done = harvest(server, tmp_path, page_size=6)
    assert done.receipt["verified"]
    assert sorted(done.lines) == server.catalog.bodies


def test_a_redirect_is_not_followed_wherever_it_leads(server: Server, tmp_path: Path) -> None:
    for location in ("http://[", "//169.254.169.254/x", "file:///etc/passwd"):
        hostile = Hostile(lambda connection, to=location: connection.sendall(redirect(to)))
        finished = harvest(server, tmp_path, {"GEOCATALOG_URL": hostile.origin}).finished
        hostile.listening.close()
        assert (finished.returncode, hostile.met) == (5, 1), finished.stderr


def redirect(location: str) -> bytes:
    """An answer that leads elsewhere."""
    return f"HTTP/1.1 307 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def test_a_netrc_is_never_read(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login stranger password secret-of-another\n")
    server.catalog.bodies = [item(0)]
    done = harvest(server, tmp_path, {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")})
    assert json.loads(done.lines[0])["id"] == "i00000"
    assert all(credentials.startswith("Bearer ") for credentials in server.credentials)
