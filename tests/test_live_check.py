"""The live check finds what differs between two clouds, tells no secret, and agrees on two stand-ins."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests

from benchmarks.comparison import Finding, compare, fields_read
from benchmarks.observation import Call, observed
from benchmarks.shapes import shape_of
from spatiobatch.settings import Settings

ROOT = Path(__file__).parent.parent
SUBSCRIPTION = "6d0f3c0e-93a5-4a0e-8f55-0d1a1f4c2b77"
SETTINGS = {
    "subscription_id": SUBSCRIPTION,
    "resource_group": "floods",
    "storage_account": "floodstore",
    "geocatalog_id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/maps/providers/Microsoft.Orbital/geoCatalogs/atlas",
}
SECRETS = ("eyJsecret", "hush", "floods", "floodstore", "alice", "atlas", SUBSCRIPTION)


def call(document: Any, status: int = 200) -> Call:
    return Call("arm", "GET", "/pools/{pool}", status, None, shape_of(document))


def findings(real: Any, local: Any, status: int = 200) -> list[Finding]:
    return compare([call(real)], [call(local, status)], frozenset({"state"}))


def test_same_answers_are_no_finding() -> None:
    assert findings({"state": "Active", "nodes": 3}, {"state": "Active", "nodes": 4}) == []


def test_another_status_is_found() -> None:
    (finding,) = findings({}, {}, status=404)
    assert finding.disagrees
    assert finding.what == "answered 200, local_azure 404"


def test_a_refusal_while_roles_spread_is_only_noted() -> None:
    (finding,) = compare([call({}), call({}, 403)], [call({})], frozenset())
    assert not finding.disagrees


@pytest.mark.parametrize(("field", "matters"), [("state", True), ("etag", False)])
def test_a_missing_field_matters_if_our_code_reads_it(field: str, matters: bool) -> None:
    (finding,) = findings({"value": [{field: "x"}]}, {"value": [{}]})
    assert finding.what == f"200: /value/[]/{field} missing: string, always"
    assert finding.disagrees is matters


def test_another_type_is_found() -> None:
    (finding,) = findings({"nodes": 3}, {"nodes": "3"})
    assert finding.what == "200: /nodes other type: number, in local_azure string"
    assert finding.disagrees


def test_other_letter_case_of_a_state_is_found() -> None:
    (finding,) = findings({"state": "active"}, {"state": "Active"})
    assert finding.what == "200: /state letter case: active, in local_azure Active"
    assert finding.disagrees


def test_fields_of_an_empty_list_are_not_judged() -> None:
    assert findings({"value": [{"state": "idle"}]}, {"value": []}) == []


def test_a_call_that_the_stand_in_never_got_is_found() -> None:
    (finding,) = compare([call({})], [], frozenset())
    assert (finding.what, finding.disagrees) == ("only on the real side", True)


def test_our_code_is_known_to_read_what_it_reads() -> None:
    assert {"accountendpoint", "publicipaddressconfiguration", "cataloguri"} <= fields_read()


class _Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = {
            "id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/floods",
            "tags": {"owner-alice": "hush"},
            "users": {f"/subscriptions/{SUBSCRIPTION}/alice": {"key": "hush"}},
            "type": "alice@example.com",
            "provisioningState": "Succeeded",
        }
        body = json.dumps(answer).encode()
        self.send_response(202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", f"{self.path}&t=hush")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def service() -> Iterator[str]:
    """A service that answers with a lot that must not be told."""
    with HTTPServer(("127.0.0.1", 0), _Service) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def record(path: str, file: Path, headers: dict[str, str]) -> list[dict[str, Any]]:
    """What is kept of one call."""
    with service() as root, observed(Settings(**SETTINGS)) as observer:
        assert requests.get(root + path, headers=headers, timeout=10).json()["tags"] == {"owner-alice": "hush"}
    observer.write(file)
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_record_tells_no_token_sas_guid_or_name(tmp_path: Path) -> None:
    path = f"{SETTINGS['geocatalog_id']}/storageAccounts/FloodStore/floods/{SUBSCRIPTION}?sig=hush&api-version=1"
    (line,) = record(path, tmp_path / "calls.jsonl", {"Authorization": "Bearer eyJsecret.hush.hush"})
    told = json.dumps(line).lower()
    assert not [secret for secret in SECRETS if secret.lower() in told]
    assert line["url"].endswith("/geoCatalogs/{geocatalog}/storageAccounts/{account}/{group}/{subscription}")
    assert line["response"]["/provisioningState"] == {"string Succeeded": 1}
    assert line["headers"] == ["content-type", "location"]


def test_requests_for_tokens_are_not_recorded(tmp_path: Path) -> None:
    assert record("/tenant/oauth2/v2.0/token?secret=hush", tmp_path / "calls.jsonl", {}) == []


def live_check(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in that folder."""
    surroundings = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **variables,
    }
    command = [sys.executable, "-m", "benchmarks.live_check", *arguments]
    return subprocess.run(
        command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.timeout(270)
def test_two_stand_ins_agree(tmp_path: Path) -> None:
    done = live_check(tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.endswith("local_azure agrees.\n")
    told = (tmp_path / ".spatiobatch" / "live-check" / "local.jsonl").read_text()
    assert "/addtaskcollection" in told
    assert "eyJ" not in told


@pytest.mark.parametrize(
    ("flags", "exit_code", "said"), [((), 2, "Nothing was done"), (("--yes",), 1, "cannot be reached")]
)
def test_a_real_pass_costs_a_warning_and_ends_in_one_sentence(
    tmp_path: Path, flags: tuple[str, ...], exit_code: int, said: str
) -> None:
    (tmp_path / "azure.toml").write_text(f'subscription_id = "{SUBSCRIPTION}"\nresource_group = "floods"\n')
    done = live_check(tmp_path, "--environment", "azure.toml", *flags, SPATIOBATCH_ARM_URL="https://127.0.0.1:1")
    warning, sentence = done.stderr.splitlines()
    assert done.returncode == exit_code
    assert "costs money" in warning
    assert "floods-livecheck" in warning
    assert said in sentence
