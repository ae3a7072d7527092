"""The command line: exit codes, one sentence for bad input, and an end that leaves nothing behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import running_azure
from flow_runs import Site
from local_pools import until
from operators import application, grant
from processes import left_over

from flows.console import guarded
from flows.run import main

CHECKOUT = Path(__file__).parent.parent
ROOMS = ("flows", "tasks", "spatiobatch", "task_scripts", "local_azure", "deployments")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a `.spatiobatch` of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    for room in ROOMS:
        (folder / room).symlink_to(CHECKOUT / room)
    return folder


def start(checkout: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """`python flows/run.py …`, as a terminal starts it: in a process group of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(checkout / "prefect"), **variables}
    command = [sys.executable, "flows/run.py", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=checkout, env=environment, text=True, start_new_session=True, **pipes)


def run(checkout: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    with start(checkout, *arguments, **variables) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def start_afresh(checkout: Path) -> subprocess.Popen[str]:
    """A run without a past, when it is in the middle of its provisioning."""
    shutil.rmtree(checkout / ".spatiobatch", ignore_errors=True)
    process = start(checkout)
    blobs = checkout / ".spatiobatch" / "local" / "blobs"
    until(lambda: process.poll() is not None or (blobs.exists() and any(blobs.iterdir())), bool, seconds=90)
    return process


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bogus"], "There is no command bogus: provision, harvest, teardown, sweep or status."),
        (["harvest", "--foo"], "No such option: --foo; see python flows/run.py --help"),
        (["--foo"], "No such option: --foo"),
        (["harvest", "--content", "maps"], "'maps' is not one of 'collections', 'items'; see"),
        (["harvest", "--bbox", "-10,1,2"], "bbox: a bbox is four numbers"),
        (["harvest", "--bbox", "-10,1,2,95"], "bbox: longitudes lie between"),
        (["harvest", "--bbox", "-10,1,2,3"], "bbox can narrow items only"),
        (["harvest", "--datetime", "2024-13-01/.."], "datetime: '2024-13-01' is no RFC 3339 instant"),
        (["harvest", "--datetime", "2024-02-01/2024-01-01"], "datetime: the interval ends"),
        (["harvest", "--content", "items", "--filter", "a = = 3"], "filter: 'a = = 3' is no CQL2 from character 5 on"),
        (["harvest", "--since", "last"], "Only items have changes to ask for"),
        (["harvest", "--content", "items", "--since", "yesterday"], "'yesterday' is not one of 'last'"),
        (["harvest", "--max-items", "0"], "Invalid value for '--max-items'"),
        (["--environment", "nowhere.toml", "harvest"], "/nowhere.toml: name one of deployments/*.toml."),
        (["harvest", "--environment", "nowhere.toml"], "/nowhere.toml: name one of deployments/*.toml."),
        (["--environment=nowhere.toml"], "/nowhere.toml: name one of deployments/*.toml."),
        (["--environment", "broken.toml", "status"], "/broken.toml: "),
        (["--environment", "named.toml", "provision"], "'Group.' is no name for a resource group"),
        (["--environment", "typo.toml", "provision"], "Setting pol: Extra inputs"),
        (["--environment", "empty.toml", "provision"], "No subscription: set SPATIOBATCH_SUBSCRIPTION_ID"),
        (["teardown"], "Missing option '--yes'"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2_at_once(
    checkout: Path, arguments: list[str], sentence: str
) -> None:
    (checkout / "broken.toml").write_text("pool = [")
    (checkout / "named.toml").write_text('subscription_id = "s"\nresource_group = "Group."')
    (checkout / "typo.toml").write_text('subscription_id = "s"\npol = "x"')
    (checkout / "empty.toml").touch()
    home = checkout / "made-when-prefect-is-imported"  # which takes seconds
    code, out, err = run(checkout, *arguments, PREFECT_HOME=str(home))
    assert (code, out) == (2, "")
    assert re.fullmatch(r"spatiobatch: .+\n", err)
    assert sentence in err
    assert not home.exists()


def test_output_that_cannot_be_written_is_known_at_once(checkout: Path) -> None:
    (checkout / "file").touch()
    home = checkout / "made-when-prefect-is-imported"
    code, out, err = run(checkout, "harvest", "--output", "file/below", PREFECT_HOME=str(home))
    assert (code, out) == (1, "")
    assert err == (
        "spatiobatch: Cannot write the output to file/below: Not a directory. "
        "Name a folder that you may write with --output.\n"
    )
    assert not home.exists()


@pytest.mark.parametrize("command", ["", "provision", "harvest", "teardown", "sweep", "status", "all"])
def test_help_describes_every_option(checkout: Path, command: str) -> None:
    code, out, err = run(checkout, *command.split(), "--help")
    assert (code, err) == (0, "")
    options = re.findall(r"^  (--[\w-]+)(.*)$", out, re.MULTILINE)
    assert ("--help", "") in [(name, "") for name, _ in options]
    assert re.search(r"^Usage: run.py", out, re.MULTILINE)


def test_output_and_errors_of_a_whole_run_are_for_machines(checkout: Path) -> None:
    code, out, err = run(checkout, "--fresh", "--output", "out", COLUMNS="40")
    assert (code, err) == (0, "")
    assert "created    pool               spatiobatch\n" in out
    assert re.search(r"^optical-scenes +Optical scenes +2021-01-01/2026-01-01 ", out, re.MULTILINE)
    assert re.search(
        r"^Archive   https://127\.0\.0\.1:\d+/\w+/results/harvests/[^/]+/manifest\.json$", out, re.MULTILINE
    )
    written = re.search(r"^Output    (.*)$", out, re.MULTILINE)
    assert written
    assert Path(written[1]).is_file()
    assert left_over(checkout) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),  # as `timeout` sends it, to the whole group
        (signal.SIGHUP, 129, "hung up"),  # as a terminal does that closes
    ],
    ids=["Ctrl-C", "timeout", "closed"],
)
def test_signal_in_the_middle_ends_everything(checkout: Path, number: signal.Signals, code: int, word: str) -> None:
    process = start_afresh(checkout)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, "", f"spatiobatch: {word}\n")
    assert left_over(checkout) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_what_a_killed_run_started_ends_with_it_and_the_next_run_completes(checkout: Path) -> None:
    process = start_afresh(checkout)
    process.kill()
    process.communicate(timeout=30)
    code, out, err = run(checkout)  # at once, while they are still ending
    assert (code, err) == (0, "")
    assert "3 collections" in out
    assert left_over(checkout) == []


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command line that fails says, run in this process: one sentence, and exit code 1."""
    handler = signal.getsignal(signal.SIGTERM)

    def say(site: Site, *arguments: str) -> str:
        with site.environment():
            capfd.readouterr()
            code = main(list(arguments))
        signal.signal(signal.SIGTERM, handler)
        out, err = capfd.readouterr()
        said = [
            line for line in err.splitlines() if " | " not in line
        ]  # Prefect's own log, which `main` turns off at start
        assert (code, out, len(said)) == (1, "", 1), (code, out, err)
        return said[0]

    return say


def test_harvest_without_an_environment_names_the_command(site: Site, said: Callable[..., str]) -> None:
    assert re.search(
        r"There is no Batch account \w+ in test-\w+\. .*: python flows/run\.py provision$", said(site, "harvest")
    )


def test_wrong_geocatalog_is_told_with_what_to_set(site: Site, said: Callable[..., str]) -> None:
    wrong = f"{site.variables['LOCAL_AZURE_GEOCATALOG_ID']}x"
    sentence = said(site.with_(geocatalog_id=wrong), "provision")
    assert f"There is no GeoCatalog {wrong}: set geocatalog_id" in sentence


def test_missing_role_is_told_with_what_was_refused(site: Site, said: Callable[..., str]) -> None:
    sentence = said(site.as_(**application(site, "nobody").variables), "harvest")
    assert "with 403 AuthorizationFailed" in sentence
    assert "Microsoft.Batch/batchAccounts/read" in sentence


def test_missing_blob_role_is_named(site: Site, said: Callable[..., str]) -> None:
    site.provision()
    operator = application(site, "blobless")
    grant(site, operator, "Azure Batch Data Contributor", "batchAccounts")
    assert "You need the role Storage Blob Data Contributor" in said(site.as_(**operator.variables), "harvest")


def test_foreign_token_is_told_with_what_to_do(site: Site, said: Callable[..., str], tmp_path: Path) -> None:
    with running_azure(tmp_path) as elsewhere:
        stranger = site.as_(AZURE_POD_IDENTITY_AUTHORITY_HOST=elsewhere["AZURE_POD_IDENTITY_AUTHORITY_HOST"])
        sentence = said(stranger, "provision")
    assert "with 401" in sentence
    assert "Sign in again (az login)" in sentence


def test_nobody_signed_in_is_told_what_to_do(site: Site, said: Callable[..., str]) -> None:
    assert "Azure does not know who you are: run az login" in said(site.as_(), "provision")


def test_no_network_is_told(site: Site, said: Callable[..., str]) -> None:
    sentence = said(site.with_(arm_url="https://127.0.0.1:9"), "provision")
    assert "Azure cannot be reached, check the network" in sentence


def test_fault_of_ours_keeps_its_traceback_in_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: {}["key"], tmp_path) == 1
    assert "this is a fault of spatiobatch (KeyError: 'key'); its traceback is in" in capfd.readouterr().err
    assert "Traceback" in (tmp_path / "fault.txt").read_text()
