"""Imports run one way: flows → tasks → spatiobatch; task_scripts and local_azure import none of ours."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"flows", "tasks", "spatiobatch", "local_azure", "task_scripts"}
MAY_IMPORT = {
    "flows": {"flows", "tasks", "spatiobatch"},
    "tasks": {"tasks", "spatiobatch"},
    "spatiobatch": {"spatiobatch"},
    "local_azure": {"local_azure"},
    "task_scripts": set(),
}
ON_THE_NODE = {"requests", "azure", "msgspec", "zstandard", "duckdb"}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert imported(file) & OURS <= MAY_IMPORT[room], file


def test_the_nouns_import_no_prefect() -> None:
    assert not any("prefect" in imported(file) for file in (ROOT / "spatiobatch").rglob("*.py"))


def test_node_scripts_import_only_what_the_start_task_installs() -> None:
    for file in (ROOT / "task_scripts").glob("*.py"):
        assert imported(file) - sys.stdlib_module_names <= ON_THE_NODE, file


def test_no_code_branches_on_being_local() -> None:
    for room in ("tasks", "spatiobatch"):
        for file in (ROOT / room).rglob("*.py"):
            assert "local" not in {
                node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)
            }, file


def test_no_flow_file_hides_a_module() -> None:
    assert not {file.stem for file in (ROOT / "flows").glob("*.py")} & (sys.stdlib_module_names | OURS)
