"""The Azure CLI, which nobody here wrote, runs the quickstart by hand: the commands of docs/local-azure.md, in order.

It is the `az` of the virtual environment that the variable `AZURE_CLI` names, or the one on the PATH.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from catalogs import catalog_folder, collection, without_links
from conftest import running_azure

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
def quickstart(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quickstart]:
    """The page's commands, run once in one shell; about a minute."""
    folder = tmp_path_factory.mktemp("quickstart")
    shutil.copytree(QUICKSTART, folder, dirs_exist_ok=True)
    catalog = catalog_folder(folder / "catalog", _COLLECTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        patch.setenv("HOME", str(folder))
        with running_azure(folder, "--shared-keys", "on", "--catalog", str(catalog)):
            steps = run_in_one_shell(folder, COMMANDS)
    yield Quickstart(printed_commands(folder), steps)


def run_in_one_shell(folder: Path, commands: list[str]) -> list[Step]:
    """Run commands one after the other, whatever becomes of each, with a pipe behind their output."""
    script = "".join(
        f"{{ {command}\n}} 2>{number}.errors; printf '\\0%d\\0' $?\n" for number, command in enumerate(commands)
    )
    environment = {**os.environ, "AZURE_CORE_COLLECT_TELEMETRY": "false", "AZURE_CORE_NO_COLOR": "true"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    said = done.stdout.split("\0")
    return [
        Step(command, int(code), output, (folder / f"{number}.errors").read_text())
        for number, (command, output, code) in enumerate(zip(commands, said[::2], said[1::2], strict=False))
    ]


def printed_commands(folder: Path) -> list[str]:
    """The indented lines of shell that the stand-in has printed, as they are in its own folder."""
    log = (folder / "azure.log").read_text().replace(str(folder), ".")
    return re.findall(r"^    ((?:set|az|curl) .*)$", log, re.MULTILINE)


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
