"""A run whose Prefect server is killed, or was never there, ends soon, says so, and keeps what it has brought."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest
from azure.batch import BatchClient
from azure.storage.blob import ContainerClient
from flow_runs import Site, running_site
from local_pools import until
from prefect_processes import CHECKOUT, QUIET, Prefect, command_line, running_prefect
from processes import processes_with
from test_crashes import at

from spatiobatch.query import query_from

HURRIED = (
    "import sys; import flows.prefect_server as servers; from flows.run import main; "
    "servers._LOOK_SECONDS = 0.5; servers.leave(main(sys.argv[1:]))"
)
"""The command line, with looks at its server that take a tenth of the time."""
OWN = Prefect(httpx.Client())
"""No server at all, so that a command line starts one."""
KEPT = re.compile(
    r"spatiobatch: Prefect's server at 127\.0\.0\.1:\d+ is gone, and the run ended with it; what harvest (\S+) has "
    r"brought so far is kept, and the next run of the same query goes on with it \(by hand: --resume \1\)\.\n"
)


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    flags = ("--clock", "instant", "--demo-items", "2000")
    with running_site(tmp_path_factory.mktemp("site"), *flags, requests_per_second="20") as site:
        site.provision()
        yield site


def harvesting(site: Site, interval: str, variables: dict[str, str]) -> "subprocess.Popen[str]":
    """A harvest of items, in the middle of its first round."""
    since = site.now
    process = subprocess.Popen(
        [sys.executable, "-c", HURRIED, "harvest", "--content", "items", "--datetime", interval],
        cwd=CHECKOUT,
        env={**os.environ, **QUIET, **site_variables(site), **variables},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    at("rounds", site, process, since)
    return process


def site_variables(site: Site) -> dict[str, str]:
    with site.environment():
        return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


def kill_server(home: Path) -> None:
    (server,) = [process for process, command in processes_with(str(home)).items() if "server start" in command]
    os.kill(server, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("named", "interval"), [(False, "2001-01-01/.."), (True, "2002-01-01/..")], ids=["its own", "named"]
)
def test_a_harvest_whose_prefect_server_is_killed_ends_soon_and_keeps_what_it_has(
    named: bool, interval: str, provisioned: Site, batch: BatchClient, results: ContainerClient, tmp_path: Path
) -> None:
    query = query_from(content="items", datetime=interval)
    with running_prefect(tmp_path) if named else nullcontext(OWN) as prefect:
        process = harvesting(provisioned, interval, {"PREFECT_HOME": str(tmp_path / "prefect"), **prefect.variables})
        kill_server(tmp_path / "prefect")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    said = KEPT.fullmatch(err)
    assert said, err
    note = results.get_blob_client(f"open/{query.hash}.json")
    assert json.loads(note.download_blob().readall())["harvest_id"] == said[1]
    assert note.get_blob_properties().lease.state == "available"
    until(lambda: processes_with(str(tmp_path)), lambda left: not left, seconds=5)


def test_a_prefect_server_that_was_never_there_is_told_with_what_to_do(provisioned: Site, tmp_path: Path) -> None:
    nowhere = {**QUIET, "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": "http://me:secret@127.0.0.1:9/api"}
    with command_line(provisioned, Prefect(httpx.Client(), nowhere), "harvest") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err == (
        "spatiobatch: Prefect's server at 127.0.0.1:9, which PREFECT_API_URL names, does not answer ([Errno 111] "
        "Connection refused): start it, or unset PREFECT_API_URL (prefect config unset PREFECT_API_URL) for the run to "
        "have one of its own.\n"
    )


def test_a_prefect_server_that_cannot_start_is_told_with_its_reason(provisioned: Site, tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"no database" * 1000)
    home = {**QUIET, "PREFECT_HOME": str(tmp_path)}
    with command_line(provisioned, Prefect(httpx.Client(), home), "harvest") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert re.fullmatch(r"spatiobatch: Prefect's server did not start at http://\S+: .*file is not a database\.\n", err)
