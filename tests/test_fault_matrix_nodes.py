"""Every node script under every kind of fault of each service that it asks: it ends well, or in one sentence."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import stac_stub
from fault_cases import KINDS, Case, drawn, losing
from fault_report import Tally
from faulty import running
from node_scripts import CLIENT_ID, HURRY, SCRIPTS, environment, page, run, serving, tool_folder
from test_compaction_script import WANTED, Container

LASTING = 1000
WAIT = {"READ_TIMEOUT_SECONDS": "0.5"}
AIMS = {
    "identity": "^GET /metadata/identity/",
    "geocatalog": "^[A-Z]+ /stac/",
    "blob": "^[A-Z]+ /(results|account)/",
    "stored": "^PUT /(results|account)/",
}
"""What a request looks like, by the service that it is for, or by what it does there."""
Ended = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Ran:
    """What a script did."""

    ended: Ended
    right: Callable[[], bool]
    left: int
    """Faults that have not struck."""


def _script(name: str) -> list[str]:
    return [sys.executable, "-I", "-c", HURRY, str(SCRIPTS / name)]


def listing(folder: Path, faults: list[tuple[str, str]], *, bash: bool = False) -> Ran:
    with serving() as server:
        server.answers, server.faults = [page("a")], faults
        variables = environment(server, **WAIT)
        if bash:
            variables["PATH"] = str(tool_folder(folder / "bin", "python3"))
        command = ["bash", str(SCRIPTS / "list_collections.sh")] if bash else _script("list_collections.py")
        ended = run(command, folder, variables)
    return Ran(ended, lambda: [each["id"] for each in json.loads(ended.stdout)["collections"]] == ["a"], len(faults))


def bash_listing(folder: Path, faults: list[tuple[str, str]]) -> Ran:
    return listing(folder, faults, bash=True)


def probe(folder: Path, faults: list[tuple[str, str]]) -> Ran:
    stored = 1 + sum((" /(results" in aim, fault) == (True, "truncate") for aim, fault in faults)
    with serving() as server:
        server.answers, server.faults = [*[stac_stub.Answer(201, "")] * stored, page("a")], faults
        variables = environment(server, PROBE_RESULT_URL=f"{server.origin}/account/results/probe/1.json", **WAIT)
        ended = run(_script("probe.py"), folder, variables)
    return Ran(ended, lambda: json.loads(ended.stdout)["geocatalog"] == "ok", len(faults))


def items(folder: Path, faults: list[tuple[str, str]]) -> Ran:
    with stac_stub.serving() as server:
        server.catalog.bodies = [stac_stub.item(number) for number in range(25)]
        server.faults = faults
        done = stac_stub.harvest(server, folder, WAIT)
    right = lambda: sorted(done.lines) == sorted(server.catalog.bodies) and bool(done.receipt["verified"])  # noqa: E731
    return Ran(done.finished, right, len(faults))


def compaction(folder: Path, faults: list[tuple[str, str]]) -> Ran:
    with ExitStack() as stack:
        server = stack.enter_context(running(Container()))
        server.archive(*(stac_stub.item(number) for number in range(5)))
        server.want({"shards": [server.part("s1")]})
        server.faults = faults
        variables = {
            "RESULTS_URL": f"{server.origin}/results",
            "HARVEST_ID": "h",
            "AZURE_CLIENT_ID": CLIENT_ID,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": server.origin,
            "COMPACT": WANTED,
            **WAIT,
        }
        ended = run(_script("compact_items.py"), folder, variables)
    report = "harvests/h/parquet/c/compaction.json"
    return Ran(ended, lambda: json.loads(server.blobs[report])["files"]["2020-01"]["rows"] == 5, len(faults))


STEPS: dict[str, tuple[str, Callable[[Path, list[tuple[str, str]]], Ran]]] = {
    "list.py-geocatalog": ("geocatalog", listing),
    "list.sh-geocatalog": ("geocatalog", bash_listing),
    "probe-geocatalog": ("geocatalog", probe),
    "items-geocatalog": ("geocatalog", items),
    "list.py-identity": ("identity", listing),
    "items-identity": ("identity", items),
    "compaction-identity": ("identity", compaction),
    "probe-blob": ("blob", probe),
    "items-blob": ("blob", items),
    "compaction-blob": ("blob", compaction),
}
SLOW: dict[str, tuple[str, Callable[[Path, list[tuple[str, str]]], Ran]]] = {
    "list.sh-identity": ("identity", bash_listing),
}
"""Once each only: curl's own pauses cannot be hurried."""
WRITES: dict[str, tuple[str, Callable[[Path, list[tuple[str, str]]], Ran]]] = {
    "probe-answer": ("stored", probe),
    "items-receipt": ("stored", items),
    "compaction-report": ("stored", compaction),
}
SERVICES = {step: service for step, (service, _) in STEPS.items()}
CASES = (
    drawn(SERVICES, rows=len(KINDS)) + [Case(step, "once", (kind,)) for step in SLOW for kind in KINDS] + losing(WRITES)
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_node_script_ends_well_or_in_one_sentence(case: Case, tmp_path: Path, tally: Tally) -> None:
    aim, script = (STEPS | SLOW | WRITES)[case.step]
    faults = [(AIMS[aim], word) for word, times in case.faults(LASTING) for _ in range(times)]
    ran = script(tmp_path, list(faults))
    ended = ran.ended
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stdout + ended.stderr
    if case.spell == "lasting":
        assert ended.returncode in (3, 5, 6), ended.stderr
        assert _last_words(ended, case.step)
    else:
        assert (ended.returncode, ran.left, ran.right()) == (0, 0, True), ended.stderr
    tally.ends("refused" if case.spell == "lasting" else "survived", len(faults) - ran.left)


def _last_words(ended: Ended, step: str) -> str:
    """Why it gave up: the probe says so in its answer, the others on standard error."""
    if step.startswith("probe"):
        answers = json.loads(ended.stdout)
        return " ".join(answers[name] for name in ("storage", "geocatalog") if answers[name] != "ok")
    return ended.stderr.splitlines()[-1]
