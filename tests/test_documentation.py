"""What the documentation says is so: the settings table, the commands, the links, the layout."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spatiobatch.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]


def settings_table() -> str:
    rows = ["| setting | default | |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default in ("", None, {}) else f"`{getattr(default, 'value', default)}`"
        rows.append(f"| `{name}` | {shown} | {field.description} |")
    return "\n".join(rows)


def commands() -> list[str]:
    """Every line of a console block that calls the command line or the stand-in."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if re.match(r"python (flows/run\.py|-m local_azure)", line)]


def test_the_settings_table_is_the_settings() -> None:
    assert settings_table() in README, f"README's settings table should be:\n{settings_table()}"


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_uses_options_that_exist(command: str) -> None:
    words = shlex.split(command, comments=True)
    subcommand = [word for word in words[2:3] if not word.startswith("-")] if "flows" in words[1] else []
    program = words[1 : 2 if "flows" in words[1] else 3]
    shown = subprocess.run(
        [sys.executable, *program, *subcommand, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    known = shown if subcommand or "flows" not in words[1] else shown + "--environment --fresh"
    assert [word.split("=")[0] for word in words if word.startswith("--") and word.split("=")[0] not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_layout_in_contributing_names_every_folder() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {line.split("/")[0] for line in tracked.splitlines() if "/" in line and not line.startswith(".")}
    named = set(re.findall(r"^\| `([a-z_]+)/` ", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert named == folders


def test_ci_runs_the_readmes_own_test_command() -> None:
    assert "make test" in README
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_automation_that_operations_shows_is_one_that_prefect_takes() -> None:
    from prefect.events.schemas.automations import AutomationCore  # noqa: PLC0415  # takes seconds

    (shown,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    automation = AutomationCore.model_validate(yaml.safe_load(shown))
    assert automation.trigger.expect == {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}


def promised(page: str) -> list[str]:
    """`file` or `file::test` of every promise in a page of the documentation."""
    rows = re.findall(r"^\| .+ \| (.+) \|$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    named = [cell for row in rows for cell in re.findall(r"`(.+?)`", row)]
    files = [name for name in named if name.startswith(("test_", "::"))]
    last = ""
    found = []
    for name in files:
        last = last if name.startswith("::") else name.partition("::")[0]
        found.append(name if name.startswith("test_") else f"{last}{name}")
    return found


@pytest.mark.parametrize("promise", sorted({*promised("reliability.md"), *promised("local-azure.md")}))
def test_a_promise_names_a_test_that_there_is(promise: str) -> None:
    file, _, name = promise.partition("::")
    text = (ROOT / "tests" / file).read_text()
    assert not name or f"def {name}(" in text


def batch_promises() -> list[tuple[str, str, str]]:
    """Rows of the table of Batch's semantics: promise, page, tests."""
    page = (ROOT / "docs" / "local-azure.md").read_text()
    table = page.partition("\n## Batch, promise by promise\n")[2].partition("\n### ")[0]
    return re.findall(r"^\| (?!promise|---)([^|]+) \| ([^|]*) \| ([^|]*) \|$", table, re.MULTILINE)


def test_every_promise_about_batch_has_a_test_and_what_follows_azure_its_page() -> None:
    promises = batch_promises()
    assert len(promises) > 40
    of_azure = [what for what, page, tests in promises if not page and not what.startswith("**")]
    assert [what for what, _, tests in promises if "test_" not in tests and not what.startswith("**")] == []
    assert all(page.count("(https://learn.microsoft.com/") == 1 for _, page, _ in promises if page)
    assert len(of_azure) == 3, "only what stands beside Azure's documentation has no page of it"
