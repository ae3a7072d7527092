"""What the tests of the node scripts share: a server that plays GeoCatalog, storage and IMDS; how to run one."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

from faulty import Faulty, running

SCRIPTS = Path(__file__).parents[1] / "task_scripts"
TOOLS = (
    *("bash", "cat", "chmod", "curl", "date", "grep", "head", "mkdir", "mktemp", "mv", "rm", "sed", "tail", "timeout"),
    *("tr", "wc"),
)
HURRY = "import runpy, sys, time; time.sleep = lambda seconds: None; runpy.run_path(sys.argv[1], run_name='__main__')"
CLIENT_ID = "11111111-2222-3333-4444-555555555555"


@dataclass
class Answer:
    """One answer of the server; `{origin}` in the body is its own address, `{token}` what it was sent."""

    status: int = 200
    body: str = '{"collections": [], "links": []}'
    headers: dict[str, str] = field(default_factory=dict)
    torn: bool = False
    """Announce more bytes than are sent."""


def page(*ids: str, then: str = "") -> Answer:
    """A page of collections, with a next link."""
    links = [{"rel": "next", "href": then}] if then else []
    return Answer(body=json.dumps({"collections": [{"type": "Collection", "id": i} for i in ids], "links": links}))


class Server(ThreadingHTTPServer):
    """Gives its answers in order, the last one again and again. Tokens are `secret-1`, `secret-2` and so on."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.token_answers: list[Answer] = []
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self.token_requests = 0
        self.bodies: list[bytes] = []
        self.faults: list[tuple[str, str]] = []

    @property
    def origin(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def token(self) -> Answer:
        """What IMDS answers."""
        self.token_requests += 1
        if self.token_answers:
            return self.token_answers.pop(0)
        token = {"access_token": f"secret-{self.token_requests}", "expires_in": "3600", "token_type": "Bearer"}
        return Answer(body=json.dumps(token))


class _Handler(Faulty):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is written in two pieces

    def do_GET(self) -> None:
        if "/metadata/identity/" in self.path:
            wanted = self.headers.get("Metadata") == "true" and f"client_id={CLIENT_ID}" in self.path
            return self._send(self.server.token() if wanted else Answer(400, '{"error": "invalid_request"}'))
        self.server.asked.append(self.path)
        self.server.tokens.append(self.headers.get("Authorization", ""))
        answers = self.server.answers
        return self._send(answers.pop(0) if len(answers) > 1 else answers[0])

    def do_PUT(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_GET()

    def _send(self, answer: Answer) -> None:
        text = answer.body.replace("{origin}", self.server.origin)
        body = text.replace("{token}", self.headers.get("Authorization", "")).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + 10 * answer.torn))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = answer.torn

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server in a thread of its own."""
    with running(Server()) as server:
        yield server


def stand_in(folder: Path, name: str, body: str) -> None:
    """Put a program of that name into a folder."""
    file = folder / name
    file.write_text(f"#!/bin/bash\n{body}\n")
    file.chmod(0o755)


def tool_folder(folder: Path, *extra: str) -> Path:
    """A PATH with the few tools that a script needs and `extra`, where sleeping takes no time."""
    folder.mkdir()
    for tool in (*TOOLS, *(name for name in extra if name != "python3")):
        program = shutil.which(tool)
        assert program, f"{tool} is not on this machine"
        (folder / tool).symlink_to(program)
    if "python3" in extra:
        stand_in(folder, "python3", f'exec "{sys.executable}" "$@"')
    stand_in(folder, "sleep", ":")
    return folder


def run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run in an empty folder with nothing but that environment."""
    empty = folder / "wd"
    empty.mkdir(exist_ok=True)
    return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=60, check=False)


def environment(server: Server, **changes: str) -> dict[str, str]:
    """What the flow gives to a task, on this server."""
    return {
        "GEOCATALOG_URL": server.origin,
        "GEOCATALOG_API_VERSION": "2026-04-15",
        "AZURE_CLIENT_ID": CLIENT_ID,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": server.origin,
        **changes,
    }


def list_collections(runtime: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the script of one runtime, `python` or `bash`, without waiting between attempts."""
    tools = folder / "bin"
    if not tools.exists():
        tool_folder(tools, "python3")
    bash = ["bash", str(SCRIPTS / "list_collections.sh")]
    python = [sys.executable, "-I", "-c", HURRY, str(SCRIPTS / "list_collections.py")]
    finished = run(bash if runtime == "bash" else python, folder, environment | {"PATH": str(tools)})
    assert "secret-" not in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished
