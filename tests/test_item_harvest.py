"""A whole item harvest: nothing missing, nothing twice, every item byte for byte as the catalog serves it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
import zstandard
from catalogs import DATA, archived
from flow_runs import Site, running_site

from spatiobatch.errors import NoSuchHarvestError
from spatiobatch.manifest import CollectionTotals, Cost, Harvest, Manifest
from spatiobatch.query import query_from
from spatiobatch.shards import Verify
from tasks.settlement import incomplete

DEMO_ITEMS = 600


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """An environment before the demo catalog."""
    folder = tmp_path_factory.mktemp("site")
    flags = ("--demo-items", str(DEMO_ITEMS), "--clock", "instant")
    with running_site(folder, *flags, resource_group="items", requests_per_second="200") as site:
        site.provision()
        yield site


@pytest.fixture(scope="module")
def whole(built: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[Harvest, dict[tuple[str, str], bytes]]:
    """A harvest of everything, and its archive."""
    output = tmp_path_factory.mktemp("whole")
    harvest = built.harvest(query_from(content="items"), output=output)
    return harvest, archived(output)


def test_every_item_of_the_catalog_is_archived_once(whole: tuple[Harvest, dict[tuple[str, str], bytes]]) -> None:
    harvest, lines = whole
    manifest = harvest.manifest
    assert len(lines) == DEMO_ITEMS == sum(found.items for found in manifest.collections.values())
    assert (manifest.complete, manifest.verified, manifest.cost.throttled) == (True, True, 0)


def test_the_parquet_files_hold_every_item_once(whole: tuple[Harvest, dict[tuple[str, str], bytes]]) -> None:
    assert whole[0].output is not None
    files = whole[0].output.parent / "parquet" / "*" / "*.parquet"
    rows = duckdb.sql(f"SELECT collection, id FROM read_parquet('{files}', union_by_name = true)").fetchall()  # noqa: S608  # a path of this test's
    assert sorted(rows) == sorted(whole[1])


def test_a_finished_harvest_cannot_be_resumed(built: Site, whole: tuple[Harvest, dict[tuple[str, str], bytes]]) -> None:
    with pytest.raises(NoSuchHarvestError, match="without --resume"):
        built.harvest(resume=whole[0].manifest.harvest_id)


@pytest.mark.parametrize(
    "narrowed",
    [
        {"datetime": "2022-01-01/2023-01-01"},
        {"bbox": "-10,40,10,60"},
        {"filter": "collection = 'optical-scenes'"},
        {"collections": ("optical-scenes",), "datetime": "2022-01-01/2024-01-01", "bbox": "-90,-45,90,45"},
    ],
    ids="+".join,
)
def test_a_narrowed_harvest_brings_a_part_of_the_whole_one_with_the_same_proof(
    built: Site,
    whole: tuple[Harvest, dict[tuple[str, str], bytes]],
    tmp_path: Path,
    narrowed: dict[str, object],
) -> None:
    harvest = built.harvest(query_from(content="items", **narrowed), output=tmp_path)
    lines = archived(tmp_path)
    assert 0 < len(lines) < DEMO_ITEMS
    assert lines.items() <= whole[1].items()
    assert harvest.manifest.complete
    assert harvest.manifest.verified


def test_a_harvest_may_end_after_so_many_items(built: Site, tmp_path: Path) -> None:
    harvest = built.harvest(query_from(content="items"), output=tmp_path, max_items=50)
    assert len(archived(tmp_path)) == 50 == sum(found.items for found in harvest.manifest.collections.values())


def test_without_a_second_look_a_harvest_says_so_and_ends_well(built: Site, tmp_path: Path) -> None:
    query = query_from(content="items", collections=("aerial-strips",))
    harvest = built.harvest(query, output=tmp_path, verify=Verify.none)
    assert harvest.manifest.complete
    assert not harvest.manifest.verified
    written = json.loads((tmp_path / f"harvests/{harvest.manifest.harvest_id}/manifest.json").read_text())
    assert written["verified"] is False


def test_a_lost_node_costs_time_and_no_item(tmp_path: Path, prefect_server: None) -> None:
    fault = ("--fault", "service=node,path=/items-,action=preempt,times=1")
    with running_site(tmp_path, "--demo-items", "300", "--clock", "instant", *fault, resource_group="lost") as site:
        site.provision()
        harvest = site.harvest(query_from(content="items"), output=tmp_path / "output")
        assert len(archived(tmp_path / "output")) == 300
        assert harvest.manifest.complete


def manifest(**found: object) -> Manifest:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    query = query_from(content="items")
    told = {"harvest_id": "h", "query": query, "started": moment, "finished": moment, "cost": Cost(node_seconds=1)}
    return Manifest.model_validate({"complete": True, "verified": True, "collections": {}, **told, **found})


def test_a_harvest_that_could_not_be_verified_fails_unless_that_was_asked_for() -> None:
    problem = incomplete(manifest(verified=False), "https://archive", Verify.ids)
    assert "--verify none" in str(problem)
    assert incomplete(manifest(verified=False), "https://archive", Verify.none) is None


def test_a_harvest_with_unsettled_items_fails_and_says_where() -> None:
    unsettled = {"naip": CollectionTotals(items=3, unsettled=2)}
    problem = incomplete(manifest(complete=False, collections=unsettled), "https://archive", Verify.ids)
    assert "2 in naip" in str(problem)


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real STAC data is not beside the checkout")
def test_real_catalogs_come_back_byte_for_byte(tmp_path: Path, prefect_server: None) -> None:
    served: dict[tuple[str, str], bytes] = {}
    for file in DATA.glob("*.ndjson.zst"):
        for line in zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read().splitlines():
            item = json.loads(line)
            served[item["collection"], item["id"]] = line
    flags = ("--catalog", str(DATA), "--clock", "instant")
    with running_site(tmp_path, *flags, resource_group="real", requests_per_second="200") as site:
        site.provision()
        harvest = site.harvest(query_from(content="items"), output=tmp_path / "output")
    assert archived(tmp_path / "output") == served
    assert harvest.manifest.collections["openaerialmap"].items == 2387


def test_a_harvest_that_left_out_collections_fails_and_names_them() -> None:
    problem = incomplete(manifest().without({"old": "type: Field required"}), "https://archive", Verify.ids)
    assert "left out: old (type: Field required)" in str(problem)
    assert "settled" not in str(problem)
    assert incomplete(manifest().without({}), "https://archive", Verify.ids) is None
