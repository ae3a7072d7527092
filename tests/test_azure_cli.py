"""The Azure CLI, which nobody here wrote, runs the quickstart by hand: the commands of docs/local-azure.md, in order.

It is the `az` of the virtual environment that the variable `AZURE_CLI` names, or the one on the PATH.
"""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from catalogs import catalog_folder, collection, without_links
from conftest import running_azure
from node_scripts import stand_in

from local_azure.nodes.image import build

ROOT = Path(__file__).parent.parent
QUICKSTART = ROOT / "docs" / "quickstart"
DOCUMENT = ROOT.parent / "shared" / "quickstart"
_COLLECTIONS = 3


@dataclass(frozen=True)
class Step:
    """A command of the page, and what came of it."""

    command: str
    exit_code: int
    output: str
    errors: str


@dataclass(frozen=True)
class Quickstart:
    """The page's commands after they were run."""

    printed: list[str]
    """Commands that the stand-in printed when it was up."""
    steps: list[Step]

    def output(self, command: str) -> Any:
        """What the one command that starts so has printed."""
        (step,) = [step for step in self.steps if step.command.startswith(command)]
        return json.loads(step.output)


def blocks() -> list[list[str]]:
    """The page's commands, one a line, by block."""
    page = (ROOT / "docs" / "local-azure.md").read_text().split("\n## Azure CLI\n")[1].split("\n## ")[0]
    return [commands_of(block) for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)]


def commands_of(text: str) -> list[str]:
    """Commands of a shell text, each on one line and with single spaces between its words."""
    return [re.sub(r"  +", " ", line) for line in text.replace("\\\n", " ").splitlines() if line]


COMMANDS = [command for block in blocks() for command in block]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but `az`."""
    venv = os.environ.get("AZURE_CLI")
    found = shutil.which("az", path=str(Path(venv, "bin")) if venv else None)
    if not found:
        pytest.skip(f"there is no az {f'in {venv}' if venv else 'on the PATH'}; .ci/run shows how to install one")
    folder = tmp_path_factory.mktemp("programs")
    (folder / "az").symlink_to(found)
    return folder


@pytest.fixture(scope="module")
def quickstart(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    """The page's commands, run once in one shell; less than a minute."""
    folder = tmp_path_factory.mktemp("quickstart")
    shutil.copytree(QUICKSTART, folder, dirs_exist_ok=True)
    catalog = catalog_folder(folder / "catalog", _COLLECTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        patch.setenv("HOME", str(folder))
        with running_azure(folder, "--shared-keys", "on", "--catalog", str(catalog), "--clock", "instant"):
            steps = run_in_one_shell(folder, COMMANDS)
    return Quickstart(printed_commands(folder), steps)


def commands_of_the_document() -> list[str]:
    """What the quickstart has its reader run; the script of its Bash job is in ours."""
    ours = json.loads((QUICKSTART / "src" / "bashjob.json").read_text())["jobManagerTask"]["commandLine"]
    text = "\n".join(file.read_text() for file in sorted(DOCUMENT.glob("*.txt")))
    wanted = re.compile(r"(az|cat) |(token_expiration|python_task_url)=")
    return [command for command in commands_of(text) if wanted.match(command) and command not in ours]


def run_in_one_shell(folder: Path, commands: list[str]) -> list[Step]:
    """Run commands one after the other, whatever becomes of each, with a pipe behind their output."""
    script = "".join(
        f"{{ {command}\n}} 2>{number}.errors; printf '\\0%d\\0' $?\n" for number, command in enumerate(commands)
    )
    environment = {**os.environ, "AZURE_CORE_COLLECT_TELEMETRY": "false", "AZURE_CORE_NO_COLOR": "true"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    said = done.stdout.decode().split("\0")
    return [
        Step(command, int(code), output, (folder / f"{number}.errors").read_text())
        for number, (command, output, code) in enumerate(zip(commands, said[::2], said[1::2], strict=False))
    ]


def printed_commands(folder: Path) -> list[str]:
    """The indented lines of shell that the stand-in has printed, as they are in its own folder."""
    log = (folder / "azure.log").read_text().replace(str(folder), ".")
    return re.findall(r"^    ((?:set|az|for|curl) .*)$", log, re.MULTILINE)


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=COMMANDS)
def test_a_command_of_the_page_succeeds(quickstart: Quickstart, number: int) -> None:
    step = quickstart.steps[number]
    assert step.exit_code == 0, step.errors
    assert "ERROR" not in step.errors


@pytest.mark.parametrize("job", ["pythonjob1", "bashjob1"])
def test_stdout_of_a_job_manager_task_holds_the_collections(quickstart: Quickstart, job: str) -> None:
    printed = quickstart.output(f"az batch task file download --job-id {job}")
    expected = [collection(number) for number in range(_COLLECTIONS)]
    assert without_links(printed["collections"]) == without_links(expected)


def test_the_page_has_the_commands_of_the_document_in_its_order() -> None:
    if not (commands := commands_of_the_document()):
        pytest.skip(f"the quickstart is not in {DOCUMENT}")
    remaining = iter(COMMANDS)
    # Ours may go on where the document's ends, with --blob-endpoint.
    assert [line for line in commands if not any(ours.startswith(line.rstrip(")")) for ours in remaining)] == []
    assert len(commands) == 14


def test_the_lines_that_the_stand_in_prints_are_among_those_of_the_page(quickstart: Quickstart) -> None:
    assert len(quickstart.printed) == 6
    assert [command for command in quickstart.printed if command not in COMMANDS] == []


def test_curl_as_printed_reads_the_catalog(quickstart: Quickstart) -> None:
    assert len(quickstart.output("curl ")["collections"]) == _COLLECTIONS


def test_pool_shows_its_node_and_identity(quickstart: Quickstart) -> None:
    (listed,) = quickstart.output("az batch pool list")
    shown = quickstart.output("az batch pool show --pool-id pool1")
    for pool in (listed, shown):
        assert (pool["id"], pool["allocationState"], pool["currentDedicatedNodes"]) == ("pool1", "steady", 1)
    (identity,) = shown["identity"]["userAssignedIdentities"]
    assert identity["principalId"] == quickstart.output("az identity create")["principalId"]


def test_node_ran_the_start_task_of_the_document(quickstart: Quickstart) -> None:
    (node,) = quickstart.output("az batch node list")
    assert (node["startTaskInfo"]["result"], node["totalTasksSucceeded"]) == ("success", 2)


def test_job_manager_task_is_listed_and_counted(quickstart: Quickstart) -> None:
    (task,) = quickstart.output("az batch task list")
    assert (task["id"], task["state"], task["executionInfo"]["exitCode"]) == ("task1", "completed", 0)
    counts = quickstart.output("az batch job task-counts show")["taskCounts"]
    assert (counts["completed"], counts["succeeded"], counts["failed"]) == (1, 1, 0)


def test_job_ends_with_its_manager(quickstart: Quickstart) -> None:
    ends = {job["id"]: job["executionInfo"].get("terminateReason") for job in quickstart.output("az batch job list")}
    assert (ends["pythonjob1"], ends["bashjob1"]) == ("JMComplete", "JMComplete")


def test_stopped_job_is_completed_by_the_user(quickstart: Quickstart) -> None:
    job = quickstart.output("az batch job show --job-id idle")
    assert job["state"] in ("terminating", "completed")
    assert job["executionInfo"]["terminateReason"] == "UserTerminate"


def test_role_of_the_identity_is_listed_with_its_name(quickstart: Quickstart) -> None:
    identity = quickstart.output("az identity create")
    assignments = quickstart.output("az role assignment list")
    roles = {each["principalId"]: (each["roleDefinitionName"], each["principalName"]) for each in assignments}
    assert roles[identity["principalId"]] == ("GeoCatalog Reader", identity["clientId"])


def test_deleted_group_is_gone(quickstart: Quickstart) -> None:
    assert quickstart.output("az group exists") is False


def test_nodes_have_the_az_of_whoever_starts_the_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "az", 'echo "az $1"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = build(tmp_path / "image").programs / "az"
    assert subprocess.run([program, "a  b"], capture_output=True, text=True, check=True).stdout == "az a  b\n"
