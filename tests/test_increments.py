"""Harvests of what changed, and what differs from the last one."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flow_runs import Site, running_site

from spatiobatch.errors import ConfigurationError
from spatiobatch.manifest import Changes, Harvest, Kind
from spatiobatch.query import Query, Since, query_from

ITEMS = query_from(content="items")
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)


def item(collection: str, number: int, changed: datetime | None, **properties: Any) -> str:
    """An item; one that is changed keeps its id and gets another time of change."""
    stamps = {} if changed is None else {"updated": changed.isoformat(), "_msft:ts": changed.isoformat()}
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"{collection}-{number}",
        "collection": collection,
        "geometry": {"type": "Point", "coordinates": [number, number]},
        "bbox": [number] * 4,
        "properties": {"datetime": f"2024-01-{number + 1:02}T00:00:00Z", **stamps, **properties},
        "links": [],
        "assets": {},
    }
    return json.dumps(document)


def publish(folder: Path, **collections: list[str]) -> None:
    """Have the catalog serve these items from its next start on."""
    folder.mkdir(exist_ok=True)
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2024-01-01T00:00:00Z", None]]}}
    common = {"type": "Collection", "stac_version": "1.0.0", "description": "…", "license": "other", "links": []}
    lines = [json.dumps({**common, "id": name, "extent": extent}) for name in collections]
    (folder / "collections.ndjson").write_text("\n".join(lines) + "\n")
    for name, items in collections.items():
        (folder / f"{name}.ndjson").write_text("\n".join(items) + "\n")


class Time:
    """A stand-in that forgets nothing, while the catalog before it changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archives: list[Path] = []

    def harvest(self, query: Query = ITEMS, **parameters: Any) -> Harvest:
        """Start the stand-in with the catalog as it is now, and harvest."""
        output = self.folder / f"output-{len(self.archives)}"
        flags = ("--catalog", str(self.folder / "catalog"), "--clock", "instant")
        with running_site(self.folder, *flags, resource_group="increments", requests_per_second="200") as site:
            site.provision()
            harvest = site.harvest(query, output=output, **parameters)
            self.archives.append(output)
            self.latest = json.loads(results(site, "latest.json"))
        return harvest


def results(site: Site, blob: str) -> bytes:
    """A blob of the results container."""
    with site.environment():
        from tasks.environment import read_environment  # noqa: PLC0415

        service = site.azure.blobs(read_environment.fn(site.azure).blob_endpoint)
        return bytes(service.get_blob_client(site.azure.settings.results_container, blob).download_blob().readall())


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> tuple[Time, list[Harvest]]:
    """A full harvest; an increment after changes; another one after none; a full harvest after removals."""
    time = Time(tmp_path_factory.mktemp("time"))
    catalog = time.folder / "catalog"
    old = [item("a", number, LONG_AGO) for number in range(8)]
    publish(catalog, a=old, gone=[item("gone", number, LONG_AGO) for number in range(3)])
    harvests = [time.harvest()]
    now = datetime.now(UTC) + timedelta(seconds=1)
    newer = [*old[:2], item("a", 2, now, note="changed"), *old[3:], item("a", 9, now)]
    publish(catalog, a=newer, gone=[item("gone", 0, LONG_AGO)], new=[item("new", 0, LONG_AGO)])
    harvests += [time.harvest(since=Since.last), time.harvest(since=Since.last)]
    publish(catalog, a=newer[1:], new=[item("new", 0, LONG_AGO)])
    harvests.append(time.harvest())
    return time, harvests


def test_an_increment_holds_what_changed_since_the_last_harvest_and_new_collections(
    story: tuple[Time, list[Harvest]],
) -> None:
    time, (_, increment, *_) = story
    found = {name: totals.items for name, totals in increment.manifest.collections.items()}
    assert found == {"a": 2, "gone": 0, "new": 1}
    assert (increment.manifest.kind, increment.manifest.complete, increment.manifest.verified) == (
        Kind.increment,
        True,
        True,
    )
    (changes,) = time.archives[1].rglob("changes/a.ndjson")
    told = [json.loads(line) for line in changes.read_text().splitlines()]
    assert told == [{"id": "a-2", "change": "changed"}, {"id": "a-9", "change": "added"}]


def test_an_increment_is_of_the_harvest_before_it(story: tuple[Time, list[Harvest]]) -> None:
    _, (full, first, second, last) = story
    bases = [harvest.manifest.base for harvest in (full, first, second, last)]
    assert bases == [None, *(harvest.manifest.harvest_id for harvest in (full, first, second))]


def test_changes_are_counted_against_all_that_was_harvested_before(story: tuple[Time, list[Harvest]]) -> None:
    _, harvests = story
    assert [harvest.manifest.changes for harvest in harvests] == [
        None,
        Changes(added=2, changed=1),
        Changes(),
        Changes(removed=4),
    ]


def test_the_next_increment_asks_from_a_quarter_of_an_hour_before_the_last_began_by_the_catalogs_clock(
    story: tuple[Time, list[Harvest]],
) -> None:
    time, (full, *_) = story
    assert full.manifest.as_of is not None
    wanted = (full.manifest.as_of - timedelta(minutes=15)).strftime("%Y-%m-%dT%H:%M:%S")
    lines = (time.folder / "record.ndjson").read_text().splitlines()
    searches = [json.loads(line) for line in lines if "/stac/search" in line]
    asked = [json.dumps(search["request_body"].get("filter")) for search in searches if search["request_body"]]
    assert any(f'"_msft:ts"}}, "{wanted}"' in text for text in asked)


def test_latest_names_the_last_full_harvest_and_its_increments(story: tuple[Time, list[Harvest]]) -> None:
    time, (*_, last) = story
    assert time.latest[ITEMS.hash] == {"full": last.manifest.harvest_id, "increments": []}


def test_without_a_time_of_change_everything_is_harvested_with_a_warning(
    tmp_path: Path, prefect_server: None, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time(tmp_path)
    publish(tmp_path / "catalog", a=[item("a", 0, LONG_AGO), item("a", 1, None)])
    first, second = time.harvest(since=Since.last), time.harvest(since=Since.last)
    assert "there is no earlier harvest of this query: everything is harvested" in caplog.text
    assert "not every item of a says when it changed" in caplog.text
    assert [harvest.manifest.kind for harvest in (first, second)] == [Kind.full, Kind.full]
    assert second.manifest.collections["a"].items == 2
    assert second.manifest.changes == Changes()


def test_a_harvest_that_was_told_to_end_early_is_nobodys_base(tmp_path: Path, prefect_server: None) -> None:
    time = Time(tmp_path)
    publish(tmp_path / "catalog", a=[item("a", number, LONG_AGO) for number in range(4)])
    whole = time.harvest()
    assert time.harvest(max_items=2).manifest.changes is None
    assert time.latest[ITEMS.hash]["full"] == whole.manifest.harvest_id


def test_collections_have_no_changes_to_ask_for(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="ask for content items"):
        site.harvest(Query(), since=Since.last)
