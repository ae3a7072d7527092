"""What people see of it in Prefect's UI: the form, the run, its artifacts, and a failure, in a real browser."""

import re
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from serving import Served

from spatiobatch.query import query_from

CHROMIUM = shutil.which("chromium")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser_page(served: Served) -> Iterator[Page]:
    """A page of headless Chromium that reaches nothing beyond this machine."""
    assert served.run("provision/provision")["state"]["name"] == "Completed"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 960}, base_url=served.root)
        page.set_default_timeout(20_000)
        page.route(lambda url: not url.startswith(served.root), lambda route: route.abort())
        yield page
        browser.close()


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest, browser_page: Page) -> Callable[[str], None]:
    """Keeps a small picture of the page where `--images` says."""
    folder = request.config.getoption("--images")

    def keep(name: str) -> None:
        if folder:
            whole = Image.open(BytesIO(browser_page.screenshot(animations="disabled")))
            whole.quantize(64).save(Path(folder) / f"{name}.png", optimize=True)

    return keep


@pytest.fixture(scope="module")
def harvested(served: Served, browser_page: Page, seen: Callable[[str], None]) -> dict[str, Any]:
    """A harvest of items that somebody asked for in the form: its flow run, when it has ended."""
    browser_page.goto("/")
    browser_page.get_by_role("link", name="Deployments").click()
    browser_page.locator("a[href*='/deployments/deployment/']").filter(has_text=re.compile("^harvest$")).click()
    browser_page.get_by_role("button", name="Run", exact=True).click()
    browser_page.get_by_text("Custom run").click()
    browser_page.get_by_role("button", name="Select What to harvest").click()
    browser_page.get_by_role("option", name="items").click()
    browser_page.get_by_role("button", name="Add item").first.click()
    browser_page.get_by_role("textbox").nth(1).fill("optical-scenes")
    seen("form")
    with browser_page.expect_response("**/create_flow_run") as created:
        browser_page.get_by_role("button", name="Submit").click()
    return served.ended(created.value.json()["id"])


def artifact(served: Served, flow_run: dict[str, Any], suffix: str) -> str:
    """Path of the page of a run's artifact."""
    asked = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
    found = served.api.post("artifacts/filter", json=asked).raise_for_status().json()
    (wanted,) = [each["id"] for each in found if each["key"] and each["key"].endswith(suffix)]
    return f"/v2/artifacts/artifact/{wanted}"


def test_what_is_chosen_in_the_form_is_what_is_harvested(harvested: dict[str, Any]) -> None:
    assert harvested["state"]["name"] == "Completed"
    assert harvested["name"] == "harvest items of optical-scenes"
    assert harvested["parameters"]["query"]["collections"] == ["optical-scenes"]


def test_the_log_of_a_run_tells_of_rounds_not_of_tasks(served: Served, harvested: dict[str, Any]) -> None:
    asked = {"logs": {"flow_run_id": {"any_": [harvested["id"]]}}, "sort": "TIMESTAMP_ASC"}
    said = [line["message"] for line in served.api.post("logs/filter", json=asked).raise_for_status().json()]
    story = [line for line in said if "round" in line]
    assert story[0] == "a round begins; shards: 9, of collections: 1"
    assert story[-1].startswith("the round is over; shards so far: 9, items: 600")
    assert len(said) < 60


def test_the_page_of_a_run_lists_its_artifacts(
    harvested: dict[str, Any], browser_page: Page, seen: Callable[[str], None]
) -> None:
    browser_page.goto(f"/v2/runs/flow-run/{harvested['id']}")
    browser_page.get_by_role("tab", name="Artifacts").click()
    for kind in ("PROGRESS", "IMAGE", "MARKDOWN"):
        expect(browser_page.get_by_text(kind, exact=True)).to_be_visible()
    expect(browser_page.get_by_text("TABLE", exact=True)).to_have_count(2)
    seen("run")


def test_the_summary_is_understood_at_a_glance(
    served: Served, harvested: dict[str, Any], browser_page: Page, seen: Callable[[str], None]
) -> None:
    query_hash = query_from(content="items", collections=("optical-scenes",)).hash
    browser_page.goto(artifact(served, harvested, f"-{query_hash}"))
    expect(browser_page.get_by_role("heading", name="600 items in 1 collection")).to_be_visible()
    expect(browser_page.get_by_role("cell", name="a second look at all ids agrees")).to_be_visible()
    expect(browser_page.get_by_role("link", name=re.compile("manifest.json$"))).to_be_visible()
    seen("summary")


def test_the_picture_is_drawn(
    served: Served, harvested: dict[str, Any], browser_page: Page, seen: Callable[[str], None]
) -> None:
    browser_page.goto(artifact(served, harvested, "-picture"))
    image = browser_page.get_by_alt_text("artifact-image")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.naturalWidth") > 500
    seen("picture")


def test_the_tables_have_a_row_for_each_collection_and_each_shard(
    served: Served, harvested: dict[str, Any], browser_page: Page, seen: Callable[[str], None]
) -> None:
    browser_page.goto(artifact(served, harvested, "-collections"))
    expect(browser_page.get_by_role("cell", name="600")).to_be_visible()
    browser_page.goto(artifact(served, harvested, "-shards"))
    expect(browser_page.get_by_role("cell", name="optical-scenes")).to_have_count(9)
    seen("shards")


def test_the_bar_of_a_harvest_that_is_done_is_full(
    served: Served, harvested: dict[str, Any], browser_page: Page
) -> None:
    browser_page.goto(artifact(served, harvested, "-progress"))
    expect(browser_page.get_by_text("Progress: 100%")).to_be_visible()
    expect(browser_page.get_by_text("600 items in 9 shards")).to_be_visible()


def test_a_failed_run_says_what_broke_and_what_there_is(
    served: Served, browser_page: Page, seen: Callable[[str], None]
) -> None:
    failed = served.run("harvest/harvest", query={"content": "items", "collections": ["atlantis"]})
    sentence = "The catalog has no collection atlantis; it has aerial-strips, monthly-composites, optical-scenes."
    browser_page.goto(f"/v2/runs/flow-run/{failed['id']}")
    browser_page.get_by_role("tab", name="Details").click()
    expect(browser_page.get_by_text(sentence).first).to_be_visible()
    browser_page.goto(artifact(served, failed, "-failure"))
    expect(browser_page.get_by_role("heading", name="harvest items of atlantis failed")).to_be_visible()
    expect(browser_page.get_by_text(sentence).first).to_be_visible()
    seen("failure")
