"""Tokens shorter than a run, clocks that differ, and the calendar's odd days."""

import asyncio
import json
import runpy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from flow_runs import Site, running_site
from hypothesis import given
from hypothesis import strategies as st
from node_scripts import SCRIPTS
from prefect.server.schemas.schedules import CronSchedule
from pydantic import ValidationError

from spatiobatch.names import harvest_id
from spatiobatch.query import query_from
from spatiobatch.receipts import Bounds
from tasks import storage

TOKEN_LIFE_SECONDS = 3
COMPACTING = runpy.run_path(str(SCRIPTS / "compact_items.py"))
HARVESTING = runpy.run_path(str(SCRIPTS / "harvest_items.py"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    flags = ("--clock", "instant", "--demo-items", "100", "--token-life", str(TOKEN_LIFE_SECONDS))
    with running_site(tmp_path_factory.mktemp("time"), *flags) as site:
        site.provision()
        yield site


def test_a_harvest_that_takes_longer_than_its_tokens_live_is_complete(built: Site) -> None:
    manifest = built.harvest(query_from(content="items", page_size=10), requests_per_second=5).manifest
    assert manifest.finished - manifest.started > 2 * timedelta(seconds=TOKEN_LIFE_SECONDS)
    assert sum(found.items for found in manifest.collections.values()) == 100
    assert (manifest.complete, manifest.verified) == (True, True)


@pytest.mark.parametrize("ahead", [timedelta(minutes=10), timedelta(minutes=-10)])
def test_an_operator_whose_clock_is_minutes_off_can_harvest_by_sas(
    built: Site, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # only ever asked for UTC
            return datetime.now(UTC) + ahead

    monkeypatch.setattr(storage, "datetime", Clock)
    assert built.harvest(script_access="sas").manifest.complete


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Etc/UTC"])
@pytest.mark.parametrize("month", [3, 4, 10, 11])
def test_no_two_runs_of_an_hourly_schedule_have_the_same_harvest_id(zone: str, month: int) -> None:
    schedule = CronSchedule(cron="20 * * * *", timezone=zone)
    dates = asyncio.run(schedule.get_dates(n=24 * 31, start=datetime(2026, month, 1, tzinfo=UTC)))
    names = [harvest_id(date, "0" * 12) for date in dates]
    assert names == sorted(set(names))


def test_schedules_are_in_a_zone_without_summer_time() -> None:
    deployments = yaml.safe_load((SCRIPTS.parent / "prefect.yaml").read_text())["deployments"]
    zones = [schedule["timezone"] for each in deployments for schedule in each.get("schedules", [])]
    assert set(zones) == {"Etc/UTC"}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2024-02-29/2024-03-01", "2024-02-29T00:00:00Z/2024-03-01T00:00:00Z"),
        ("2024-02-29T23:30:00-01:00/..", "2024-03-01T00:30:00Z/.."),
        ("../2026-10-25T02:30:00+02:00", "../2026-10-25T00:30:00Z"),
        ("2026-10-25T02:30:00+02:00/2026-10-25T02:30:00+01:00", "2026-10-25T00:30:00Z/2026-10-25T01:30:00Z"),
        ("0001-01-01/9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z/9999-12-31T23:59:59.999999Z"),
        ("2024-01-01T12:00:00/..", "2024-01-01T12:00:00Z/.."),
    ],
)
def test_an_interval_is_read_to_the_instant(said: str, meant: str) -> None:
    assert query_from(content="items", datetime=said).datetime == meant


@pytest.mark.parametrize("side", ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"])
def test_an_instant_beyond_the_calendar_in_a_receipt_is_no_instant(side: str) -> None:
    with pytest.raises(ValidationError, match="out of range"):
        Bounds.model_validate_json(json.dumps({"start": side}))


@pytest.mark.parametrize(
    ("text", "month"),
    [
        ("2024-02-29T23:59:59.999999Z", "2024-02"),
        ("2024-02-29T23:59:59.9999999Z", "2024-03"),
        ("2024-02-29T23:30:00-01:00", "2024-03"),
        ("2024-03-01T00:30:00+01:00", "2024-02"),
        ("2023-02-29T00:00:00Z", "undated"),
        ("2016-12-31T23:59:60Z", "2017-01"),
        ("0001-01-01T00:00:00+01:00", "undated"),
        ("0001-01-01T00:00:00Z", "0001-01"),
        ("9999-12-31T23:59:59.9999999Z", "undated"),
        ("9999-12-31T23:59:59Z", "9999-12"),
    ],
)
def test_items_are_filed_under_their_month_in_utc(text: str, month: str) -> None:
    assert COMPACTING["month_of"]({"datetime": text}) == month


DIGITS = st.from_regex(r"(\.[0-9]{1,12})?", fullmatch=True)
OFFSETS = st.sampled_from(["Z", "z", "+14:00", "-12:00", "+00:00", "-00:00", "+05:45"])
TEXTS = st.builds(
    lambda moment, digits, offset: f"{moment:%Y-%m-%dT%H:%M:%S}{digits}{offset}", st.datetimes(), DIGITS, OFFSETS
)


@given(TEXTS | st.text(max_size=30))
def test_both_node_scripts_read_an_instant_alike(text: str) -> None:
    compacted = COMPACTING["instant"](text)
    assert compacted is None or compacted == HARVESTING["instant"](text)
