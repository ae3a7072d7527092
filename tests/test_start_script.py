"""The pool's start task, run with stand-ins for everything that would change the machine."""

import re
import subprocess
from pathlib import Path

import pytest
from node_scripts import SCRIPTS, run, stand_in, tool_folder

SCRIPT = (SCRIPTS / "start_node.sh").read_text()
PINS = re.findall(r"[a-z-]+==[\d.]+", SCRIPT)
BARE_PYTHON = r"""
case $* in
  *"import requests"*) [[ -e $0.complete ]] ;;
  *"import ensurepip"*) true ;;
  "-m venv"*) echo venv >>"$LOG"; mkdir -p "${!#}/bin"
    printf '#!/bin/bash\nself=$0\n. "%s.venv"\n' "$0" >"${!#}/bin/python"
    chmod 755 "${!#}/bin/python" ;;
esac
"""
VENV_PYTHON = r"""
case $* in
  *"-m pip install"*) all=$*; echo "pip ${all##*-check }" >>"$LOG"; : >"$self.installed" ;;
  *"import requests"*) [[ -e $self.installed ]] ;;
  *) echo "venv python $*" ;;
esac
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node whose own python3 has the packages; apt-get and sudo only note that they were called."""
    tools = tool_folder(tmp_path / "bin", "jq", "python3")
    for name in ("apt-get", "sudo"):
        stand_in(tools, name, f'echo "{name} $*" >>"$LOG"')
    return tmp_path


def start(node: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the start task as Batch does: inline."""
    variables = {"PATH": str(node / "bin"), "LOG": str(node / "log"), "AZ_BATCH_NODE_SHARED_DIR": str(node / "shared")}
    return run(["/bin/bash", "-c", SCRIPT], node, variables | environment)


def log(node: Path) -> list[str]:
    """The calls that would have changed the machine."""
    file = node / "log"
    return file.read_text().splitlines() if file.exists() else []


def bare(node: Path) -> None:
    """Take the packages from the node's python3."""
    stand_in(node / "bin", "python3", BARE_PYTHON)
    (node / "bin/python3.venv").write_text(VENV_PYTHON)


def test_it_fits_into_a_command_line() -> None:
    assert len(SCRIPT) < 4096
    assert "'" not in SCRIPT


def test_pins_are_those_of_the_lock_file() -> None:
    lock = (SCRIPTS.parent / "requirements.txt").read_text().splitlines()
    assert set(PINS) <= {line.split()[0] for line in lock if "==" in line}


def test_an_image_that_has_everything_is_left_alone(node: Path) -> None:
    for _ in range(2):
        finished = start(node)
        assert (finished.returncode, finished.stderr, log(node)) == (0, "", [])


def test_the_python_it_leaves_has_the_packages_and_passes_arguments_on(node: Path) -> None:
    start(node)
    command = [
        str(node / "shared/bin/python"),
        "-I",
        "-c",
        "import requests, azure.identity, sys; print(sys.argv[1])",
        "a b",
    ]
    assert run(command, node, {"PATH": str(node / "bin")}).stdout == "a b\n"


def test_a_missing_jq_is_asked_for_and_no_failure(node: Path) -> None:
    (node / "bin/jq").unlink()
    assert start(node).returncode == 0
    assert log(node) == ["apt-get update -q", "apt-get install -qy -o DPkg::Lock::Timeout=300 jq"]


def test_a_bare_python_gets_a_virtual_environment_once(node: Path) -> None:
    bare(node)
    for _ in range(2):
        finished = start(node)
        assert finished.returncode == 0, finished.stderr
        assert log(node) == ["venv", f"pip {' '.join(PINS)}"]
    answer = run([str(node / "shared/bin/python"), "x"], node, {"PATH": str(node / "bin")})
    assert answer.stdout == "venv python x\n"


def test_other_pins_renew_the_virtual_environment(node: Path) -> None:
    bare(node)
    start(node)
    (node / "shared/venv/packages").write_text("requests==2.0 azure-identity==1.0\n")
    assert start(node).returncode == 0
    assert log(node).count("venv") == 2


def test_an_unreachable_package_index_is_one_clear_sentence(node: Path) -> None:
    bare(node)
    (node / "bin/python3.venv").write_text("false\n")
    finished = start(node)
    assert finished.returncode == 1
    assert "does the node reach the package index?" in finished.stderr


def test_the_azure_cli_is_installed_only_when_asked_for(node: Path) -> None:
    assert start(node, WITH_AZURE_CLI="1").returncode == 0
    assert any("InstallAzureCLIDeb" in call for call in log(node))
    assert log(node)[-1].startswith("sudo bash")


def test_an_azure_cli_that_is_there_is_kept(node: Path) -> None:
    stand_in(node / "bin", "az", ":")
    assert start(node, WITH_AZURE_CLI="1").returncode == 0
    assert log(node) == []


def test_outside_a_pool_it_says_so(node: Path) -> None:
    finished = run(["/bin/bash", "-c", SCRIPT], node, {"PATH": str(node / "bin")})
    assert finished.returncode != 0
    assert "start task of a Batch pool" in finished.stderr
