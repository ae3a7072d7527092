"""Hostile text in a real browser: Prefect's pages, old and new, and the picture fetch and obey nothing."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hostile_text import ELSEWHERE, HOSTILE
from playwright.sync_api import Browser, Page, expect, sync_playwright
from test_browser import CHROMIUM, QUIET
from test_picture import compaction, drawn

from flows.prefect_server import server
from spatiobatch.text import plain, without_markup

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt-get install chromium)")
TESTS = Path(__file__).parent
OBEYED = """() => ({
    scripts: window.obeyed === true,
    images: [...document.images].map(image => image.src).filter(source => !source.startsWith("data:")),
    links: [...document.links].map(link => link.href),
})"""
"""What of the page's own content is more than text."""


@dataclass(frozen=True)
class Shown:
    """A Prefect server with what the hostile runs left, and a page of a browser that reaches nothing else."""

    api: httpx.Client
    environment: dict[str, str]
    browser: Browser
    page: Page
    asked: list[str]
    """Addresses beyond the server that pages asked for."""

    def newest(self, kind: str, key: str) -> str:
        """Id of an artifact."""
        found = self.api.post("artifacts/filter", json={"sort": "CREATED_DESC"}).raise_for_status().json()
        return str(next(each["id"] for each in found if each["type"] == kind and key in each["key"]))

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The runs of a flow."""
        asked = {"flows": {"name": {"any_": [name]}}, "sort": "START_TIME_ASC"}
        found: list[dict[str, Any]] = self.api.post("flow_runs/filter", json=asked).raise_for_status().json()
        return found

    def open(self, path: str, text: str) -> dict[str, Any]:
        """What is more than text on a page, when a text of it is there."""
        self.asked.clear()
        self.page.goto(path)
        expect(self.page.get_by_text(text).first).to_be_visible()
        self.page.wait_for_timeout(500)  # for what is fetched as soon as it is shown
        return dict(self.page.evaluate(OBEYED))

    def cells(self) -> set[str]:
        """The texts of all cells, as far as spaces go alike."""
        return {_spaced(text) for text in self.page.locator("td").all_text_contents()}


def _spaced(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """It takes a quarter of a minute."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        with server(port) as (root, _), sync_playwright() as playwright:
            environment = {**os.environ, "PREFECT_API_URL": f"{root}/api"}
            subprocess.run([sys.executable, TESTS / "hostile_runs.py"], env=environment, check=True, timeout=120)
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = browser.new_page(viewport={"width": 1280, "height": 960}, base_url=root)
            page.set_default_timeout(20_000)
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.route(lambda url: not url.startswith((root, "file:")), lambda route: route.abort())
            with httpx.Client(base_url=f"{root}/api/", timeout=30) as api:
                yield Shown(api, environment, browser, page, asked)
            browser.close()


def is_elsewhere(address: str, page: Page) -> bool:
    """Whether an address is neither the server's nor one that Prefect's own pages have."""
    root = page.url.split("/")[2]
    known = (
        root,
        "blobs",
        "docs.prefect.io",
        "prefect.io",
        "www.prefect.io",
        "sr-client-cfg.amplitude.com",
        "api2.amplitude.com",
    )
    scheme, _, rest = address.partition(":")
    return scheme not in ("data", "blob") and rest.removeprefix("//").split("/")[0] not in known


def check_text_alone(shown: Shown, path: str, text: str) -> list[str]:
    """A page shows that text, and has nothing in it that was made of hostile text; but for links, which it returns."""
    found = shown.open(path, text)
    assert (found["scripts"], found["images"]) == (False, [])
    assert [address for address in shown.asked if is_elsewhere(address, shown.page)] == []
    return [link for link in found["links"] if is_elsewhere(link, shown.page)]


@pytest.mark.parametrize("ui", ["", "/v2"])
def test_summary_shows_every_text_as_it_is(shown: Shown, ui: str) -> None:
    path = f"{ui}/artifacts/artifact/{shown.newest('markdown', 'harvest-')}"
    assert check_text_alone(shown, path, "100 collections") == []
    wanted = {name: _spaced(plain(text, 120)) for name, text in HOSTILE.items()}
    assert {name for name, text in wanted.items() if text not in shown.cells()} == set()


def test_older_table_shows_every_text_but_for_harmless_marks_of_markdown(shown: Shown) -> None:
    path = f"/artifacts/artifact/{shown.newest('table', '-collections')}"
    assert check_text_alone(shown, path, "title of the window") == []
    marks = {"picture behind a cell", "entities", "backticks", "emphasis", "escapes"}
    wanted = {name: _spaced(without_markup(plain(text, 120))) for name, text in HOSTILE.items()}
    assert {name for name, text in wanted.items() if text not in shown.cells()} == marks


def test_newer_table_is_text_and_nothing_else(shown: Shown) -> None:
    path = f"/v2/artifacts/artifact/{shown.newest('table', '-collections')}"
    assert check_text_alone(shown, path, "title of the window") == []


@pytest.mark.parametrize("ui", ["", "/v2"])
def test_page_of_a_failure_is_text_and_nothing_else(shown: Shown, ui: str) -> None:
    path = f"{ui}/artifacts/artifact/{shown.newest('markdown', 'failing-failure')}"
    assert check_text_alone(shown, path, "What is there") == []


@pytest.mark.parametrize("ui", ["", "/v2"])
def test_page_of_a_run_is_text_and_links_of_its_log_lead_where_they_say(shown: Shown, ui: str) -> None:
    for run in shown.runs("failing"):
        links = check_text_alone(shown, f"{ui}/runs/flow-run/{run['id']}", "a warning of")
        texts = {_spaced(text) for text in shown.page.locator("a[href*='127.0.0.1:9']").all_text_contents()}
        assert {text for text in texts if not text.startswith(ELSEWHERE)} == set()
        assert {link for link in links if not link.startswith(("http:", "https:", "ftp:"))} == set()


def test_logs_and_states_in_prefect_hold_no_character_that_is_obeyed(shown: Shown) -> None:
    runs = shown.runs("failing")
    asked = {"logs": {"flow_run_id": {"any_": [run["id"] for run in runs]}}, "limit": 200}
    said = [line["message"] for line in shown.api.post("logs/filter", json=asked).raise_for_status().json()]
    said += [text for run in runs for text in (run["name"], run["state"]["message"])]
    assert sum("a warning of" in text for text in said) > len(HOSTILE)
    assert {line for text in said for line in text.split("\n") if not line.isprintable()} == set()


def test_prefects_command_line_lists_the_runs(shown: Shown) -> None:
    command = [sys.executable, "-m", "prefect", "flow-run", "ls", "--flow-name", "failing"]
    environment = {**shown.environment, "COLUMNS": "500", "FORCE_COLOR": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "[red]red[/red] [/x] [link=http://127.0.0.1:9]click[/link]" in done.stdout
    assert "\x1b]" not in done.stdout


def test_picture_is_text_and_nothing_else(shown: Shown, tmp_path: Path) -> None:
    texts, file = list(HOSTILE.values()), tmp_path / "picture.svg"
    asked: list[str] = []
    page = shown.browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    for start in range(0, len(texts), 7):
        named = {text: compaction({"2024-01": 3}, {2: "40,65,3"}) for text in texts[start : start + 7]}
        file.write_text(drawn(named)[0])
        page.goto(f"file://{file}")
        assert page.locator("script, a, foreignObject").count() == 0
        assert page.evaluate("window.obeyed") is None
    assert {address for address in asked if not address.startswith("data:image/png;")} == {f"file://{file}"}
