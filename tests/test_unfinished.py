"""One run at a time works on a harvest, and what it leaves unfinished the next one goes on with."""

import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from flow_runs import Site, running_site

from spatiobatch.errors import HarvestRunningError, HarvestTakenError, JobEndedError, NoSuchHarvestError
from spatiobatch.query import Query, Since
from tasks import unfinished
from tasks.environment import Environment
from tasks.unfinished import Unfinished, held, wanted

EARLIER, LATER = datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("unfinished"), "--clock", "instant") as site:
        site.provision()
        yield site


def begin(site: Site, environment: Environment, harvest: Unfinished | str) -> unfinished.Hold:
    return unfinished.hold_harvest.fn(site.azure, environment, harvest, str(uuid.uuid4()))


def test_a_harvest_that_ended_leaves_nothing(provisioned: Site, environment: Environment, query: Query) -> None:
    hold = begin(provisioned, environment, wanted(query, EARLIER))
    hold.finish()
    with pytest.raises(NoSuchHarvestError):
        begin(provisioned, environment, hold.harvest.harvest_id)


def test_the_next_run_of_the_same_query_goes_on_with_what_is_unfinished(
    provisioned: Site, environment: Environment, query: Query
) -> None:
    first = begin(provisioned, environment, wanted(query, EARLIER, max_items=5))
    first.release()
    with held(provisioned.azure, environment, wanted(query, LATER, max_items=5)) as second:
        assert second.harvest == first.harvest


def test_a_run_that_asks_for_something_else_begins_anew(
    provisioned: Site, environment: Environment, query: Query
) -> None:
    begin(provisioned, environment, wanted(query, EARLIER, Since.last)).release()
    with held(provisioned.azure, environment, wanted(query, LATER)) as second:
        assert second.harvest.harvest_id.startswith("20261124T")
    with pytest.raises(NoSuchHarvestError):
        begin(provisioned, environment, wanted(query, EARLIER).harvest_id)


def test_a_run_for_changes_goes_on_with_an_unfinished_full_harvest(
    provisioned: Site, environment: Environment, query: Query
) -> None:
    begin(provisioned, environment, wanted(query, EARLIER)).release()
    with held(provisioned.azure, environment, wanted(query, LATER, Since.last)) as second:
        assert (second.harvest.harvest_id[:8], second.harvest.since) == ("20261123", None)


def test_an_unfinished_harvest_is_resumed_as_it_was_asked_for(
    provisioned: Site, environment: Environment, query: Query
) -> None:
    first = begin(provisioned, environment, wanted(query, EARLIER, Since.last))
    first.release()
    with held(provisioned.azure, environment, first.harvest.harvest_id) as second:
        assert (second.harvest.since, second.harvest.started) == (Since.last, first.harvest.started)


def test_a_second_run_of_the_same_query_waits_for_the_first(
    provisioned: Site, environment: Environment, query: Query
) -> None:
    first = begin(provisioned, environment, wanted(query, EARLIER))
    threading.Timer(1, first.finish).start()
    with held(provisioned.azure, environment, wanted(query, LATER)) as second:
        assert second.harvest.harvest_id.startswith("20261124T")


def test_a_run_that_goes_on_for_longer_ends_the_second_one_with_a_sentence(
    provisioned: Site, environment: Environment, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "LEASE_SECONDS", 15)
    monkeypatch.setattr(unfinished, "_RENEW_SECONDS", 4)
    site = provisioned.with_(running_harvest_wait_minutes="0.01")
    running = "20261123T000000Z-.* is still running"
    with (
        held(provisioned.azure, environment, wanted(query, EARLIER)),
        pytest.raises(HarvestRunningError, match=running),
    ):
        begin(site, environment, wanted(query, LATER))


def test_a_run_that_died_is_followed_within_a_minute(
    provisioned: Site, environment: Environment, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "LEASE_SECONDS", 15)
    first = begin(provisioned, environment, wanted(query, EARLIER))
    first._over.set()  # as a killed process, it neither renews nor releases
    begun = time.monotonic()
    with held(provisioned.azure, environment, wanted(query, LATER)) as second:
        assert second.harvest == first.harvest
    assert time.monotonic() - begun < 20


def test_a_run_that_lost_its_hold_leaves_the_harvest_to_who_has_it(
    provisioned: Site, environment: Environment, query: Query
) -> None:
    first = begin(provisioned, environment, wanted(query, EARLIER))
    first._lease.break_lease(0)
    with held(provisioned.azure, environment, wanted(query, LATER)) as second:
        first.finish()
        assert second.harvest == first.harvest
        second.finish()


def test_what_fails_since_somebody_else_took_the_harvest_is_told_as_that(
    provisioned: Site, environment: Environment, query: Query
) -> None:
    def work_on(first: unfinished.Hold) -> None:
        first._lease.break_lease(0)
        begin(provisioned, environment, wanted(query, LATER)).finish()
        raise JobEndedError("harvest-1", "gone", None, 3)

    said = "stopped, asleep with its machine, or cut off"
    with (
        pytest.raises(HarvestTakenError, match=said),
        held(provisioned.azure, environment, wanted(query, EARLIER)) as hold,
    ):
        work_on(hold)


def test_a_harvest_that_nobody_took_fails_for_its_own_reason(
    provisioned: Site, environment: Environment, query: Query
) -> None:
    with pytest.raises(JobEndedError), held(provisioned.azure, environment, wanted(query, EARLIER)):
        raise JobEndedError("harvest-1", "gone", None, 3)


def test_an_unreadable_note_is_replaced(provisioned: Site, environment: Environment, query: Query) -> None:
    blob = unfinished._blob(provisioned.azure, environment, query.hash)
    blob.upload_blob("{", overwrite=True)
    with held(provisioned.azure, environment, wanted(query, EARLIER)) as hold:
        assert hold.harvest.query == query


def test_a_lease_whose_answer_got_lost_is_had_by_asking_again(
    provisioned: Site, environment: Environment, query: Query
) -> None:
    lease_id, began = str(uuid.uuid4()), time.monotonic()
    asked = (provisioned.azure, environment, wanted(query, EARLIER), lease_id)
    lost = unfinished.hold_harvest.fn(*asked)
    unfinished.hold_harvest.fn(*asked).finish()
    lost.release()
    assert time.monotonic() - began < unfinished.LEASE_SECONDS / 2
