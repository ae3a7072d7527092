"""What a harvest shows in Prefect: a page and a table, small whatever the catalog holds."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from catalogs import collection
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort

from spatiobatch.manifest import CollectionTotals, Cost, Manifest
from spatiobatch.query import Query
from tasks.summary import collection_rows, summarise

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def manifest(*collections: dict[str, Any]) -> Manifest:
    """The manifest of a harvest of these collections."""
    return Manifest(
        harvest_id="20261123T000000Z-0123456789ab",
        complete=True,
        verified=True,
        query=Query(),
        collections={each["id"]: CollectionTotals() for each in collections},
        started=NOW,
        finished=NOW,
        cost=Cost(node_seconds=1),
    )


def artifacts(*collections: dict[str, Any], receipt: Manifest | None = None) -> tuple[str, list[dict[str, str]]]:
    """The page and the table of a harvest of these collections."""
    receipt = receipt or manifest(*collections)
    key = flow(lambda: summarise(receipt, list(collections), "https://blobs/manifest.json"), name="summary")()
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    newest = {artifact.key: artifact.data for artifact in reversed(found)}
    return str(newest[key]), json.loads(str(newest[f"{key}-collections"]))


@pytest.mark.usefixtures("prefect_server")
def test_artifacts_of_two_thousand_collections_stay_below_100_kilobytes() -> None:
    page, table = artifacts(*(collection(number, title="|<[" * 40) for number in range(2000)))
    assert len(page.encode()) < 100_000
    assert len(json.dumps(table)) < 100_000
    assert page.startswith("# 2,000 collections")
    assert "more are in the archive." in page


@pytest.mark.usefixtures("prefect_server")
def test_artifacts_of_a_small_catalog_name_all_of_it_and_the_archive() -> None:
    page, table = artifacts(collection(1), collection(2, title=None))
    assert "(https://blobs/manifest.json)" in page
    assert [row["id"] for row in table] == ["collection-0001", "collection-0002"]
    assert table[1]["extent"] == "2020-01-01/.. [-10.5, 35, 5.25, 44]"


@pytest.mark.usefixtures("prefect_server")
def test_title_cannot_put_a_link_or_html_into_the_page() -> None:
    page, table = artifacts(collection(1, title="[click](https://example.org) ![](x) <script> | cell"))
    assert r"\[click\]\(https:<!-- -->//example.org\) \!\[\]\(x\) \<script\> \| cell" in page
    assert table[0]["title"] == r"[click]\x28https\x3a//example.org) ![]\x28x) \x3cscript> | cell"


@pytest.mark.usefixtures("prefect_server")
def test_a_page_says_how_many_items_are_not_in_the_parquet() -> None:
    totals = {"collection-0001": CollectionTotals(items=9, not_in_parquet=7)}
    receipt = manifest(collection(1)).model_copy(update={"collections": totals})
    page, _ = artifacts(collection(1), receipt=receipt)
    assert "⚠ **7 items are not in the GeoParquet files; the archive has them.**" in page


def test_rows_hold_nothing_that_a_terminal_would_obey() -> None:
    odd = collection(1, title="\x1b[31mred\r\n\x07", license="\ud800")
    (row,) = collection_rows([odd], manifest(odd))
    assert row["title"] == r"\x1b[31mred\r\n\x07"
    assert row["licence"] == r"\ud800"


@pytest.mark.parametrize(
    "extent",
    [
        None,
        [],
        {"spatial": None, "temporal": []},
        {"spatial": {"bbox": [["west", None]]}, "temporal": {"interval": [[]]}},
    ],
)
def test_extent_that_is_none_is_left_out(extent: Any) -> None:
    odd = collection(1, extent=extent)
    assert collection_rows([odd], manifest(odd))[0]["extent"] == "../.."
