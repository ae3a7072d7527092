"""What a service may send to the scripts that list collections has an end, and they say so soon."""

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node_scripts import Answer, Server, environment, list_collections, page, serving

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LIST = b'{"collections": []}'
Sends = Callable[[socket.socket], None]


def drip(begin: bytes, drop: bytes) -> Sends:
    """Something at once, and then a little five times a second."""

    def send(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(drop)
            time.sleep(0.2)

    return send


def flood(begin: bytes, wave: bytes) -> Sends:
    """Something, and then more of it for as long as it is taken."""

    def send(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(wave)

    return send


def bomb() -> Sends:
    """200 KB of gzip that expand to 200 MiB of blanks."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(200)) + packer.flush()
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    return lambda connection: connection.sendall(head + packed)


def headers(count: int) -> Sends:
    """An answer with many headers."""
    many = b"".join(b"X-%d: 1\r\n" % number for number in range(count))
    return lambda connection: connection.sendall(HEAD + many + b"Content-Length: %d\r\n\r\n" % len(LIST) + LIST)


@contextmanager
def sending(sends: Sends) -> Iterator[tuple[str, list[None]]]:
    """A server that sends the same whatever it is asked; its address, and an entry for each request."""
    asked: list[None] = []

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while connection.recv(65536):
                    asked.append(None)
                    sends(connection)
            except OSError:
                return  # the script had enough

    def accept(server: socket.socket) -> None:
        while True:
            try:
                connection = server.accept()[0]
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=accept, args=(server,), daemon=True)
        accepting.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


ENDLESS = {
    "a body that drips": (drip(HEAD + b"Content-Length: 9999\r\n\r\n[", b" "), 6, 3),
    "headers that drip": (drip(HEAD, b"X: 1\r\n"), 6, 3),
    "a body without end": (flood(HEAD + b"Connection: close\r\n\r\n", b" " * 65536), 5, 1),
    "headers without end": (flood(HEAD, b"X: 1\r\n" * 10_000), 5, 1),
    "a header without end": (flood(HEAD + b"X: ", b"1" * 65536), 5, 1),
    "5000 headers": (headers(5000), 5, 1),
    "a decompression bomb": (bomb(), 5, 1),
}


@pytest.mark.parametrize("runtime", ["python", "bash"])
@pytest.mark.parametrize("case", ENDLESS)
def test_an_answer_without_end_ends_soon_in_one_sentence(
    runtime: str, case: str, server: Server, tmp_path: Path
) -> None:
    sends, exit_code, attempts = ENDLESS[case]
    with sending(sends) as (address, asked):
        began = time.monotonic()
        patience = "20" if attempts == 1 else "1"
        variables = environment(server, GEOCATALOG_URL=address, READ_TIMEOUT_SECONDS=patience)
        finished = list_collections(runtime, tmp_path, variables)
        took = time.monotonic() - began
    assert (finished.returncode, finished.stdout, len(asked)) == (exit_code, "", attempts), finished.stderr
    assert len(finished.stderr.splitlines()) == attempts
    assert f"GET {address}" in finished.stderr.splitlines()[-1]
    assert took < 15


@pytest.mark.parametrize("runtime", ["python", "bash"])
def test_an_answer_of_many_headers_and_pieces_is_read(runtime: str, server: Server, tmp_path: Path) -> None:
    with sending(headers(90)) as (address, _):
        finished = list_collections(runtime, tmp_path, environment(server, GEOCATALOG_URL=address))
    assert json.loads(finished.stdout) == {"collections": []}


def test_a_compressed_answer_is_read(server: Server, tmp_path: Path) -> None:
    packed = gzip.compress(LIST)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with sending(lambda connection: connection.sendall(head + packed)) as (address, _):
        finished = list_collections("python", tmp_path, environment(server, GEOCATALOG_URL=address))
    assert json.loads(finished.stdout) == {"collections": []}


class Pages(list[Answer]):
    """Answers without end, each with another next link."""

    def __init__(self, entries: Callable[[int], list[dict[str, str]]]) -> None:
        super().__init__([Answer()] * 2)  # the server takes the first of several
        self.entries, self.given = entries, 0

    def pop(self, _: object = 0) -> Answer:
        """The next page."""
        self.given += 1
        link = {"rel": "next", "href": f"?token={self.given}"}
        return Answer(body=json.dumps({"collections": self.entries(self.given), "links": [link]}))


@pytest.mark.parametrize("runtime", ["python", "bash"])
@pytest.mark.parametrize("entries", [lambda _: [], lambda _: [{"id": "a"}, {"id": "b"}]], ids=["empty", "the same"])
def test_pages_that_bring_nothing_new_end_with_5(
    runtime: str, entries: Callable[[int], list[dict[str, str]]], server: Server, tmp_path: Path
) -> None:
    pages = server.answers = Pages(entries)
    finished = list_collections(runtime, tmp_path, environment(server))
    assert (finished.returncode, finished.stdout) == (5, "")
    assert "20 pages" in finished.stderr
    assert 20 <= pages.given <= 21


@pytest.mark.parametrize("runtime", ["python", "bash"])
def test_a_list_without_end_ends_with_5(runtime: str, server: Server, tmp_path: Path) -> None:
    pages = server.answers = Pages(lambda number: [{"id": f"{number}", "title": "x" * (8 << 20)}])
    finished = list_collections(runtime, tmp_path, environment(server))
    assert (finished.returncode, finished.stdout) == (5, "")
    assert "longer than 67108864 bytes" in finished.stderr.splitlines()[-1]
    assert pages.given == 8


@pytest.mark.parametrize("runtime", ["python", "bash"])
def test_a_collection_nested_without_end_ends_with_5(runtime: str, server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(body=f'{{"collections": [{{"id": "a", "x": {"[" * 200_000}')]
    finished = list_collections(runtime, tmp_path, environment(server))
    assert (finished.returncode, finished.stdout) == (5, "")
    assert len(finished.stderr) < 3000


@pytest.mark.parametrize(
    ("runtime", "sends"),
    [("python", drip(HEAD, b"X: 1\r\n")), ("python", headers(5000)), ("bash", headers(5000))],
    ids=["python, drips", "python, 5000 headers", "bash, 5000 headers"],
)
def test_an_identity_endpoint_without_end_ends_in_one_sentence(
    runtime: str, sends: Sends, server: Server, tmp_path: Path
) -> None:
    server.answers = [page("a")]
    with sending(sends) as (address, _):
        variables = environment(server, AZURE_POD_IDENTITY_AUTHORITY_HOST=address, READ_TIMEOUT_SECONDS="1")
        finished = list_collections(runtime, tmp_path, variables)
    assert (finished.returncode, finished.stdout, server.asked) == (3, "", []), finished.stderr
    assert len(finished.stderr.splitlines()) == 1
