"""Ids are pure functions of what they stand for, and keep Azure's limits."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatiobatch import names
from spatiobatch.errors import InvalidNameError

_ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
"""Text as JSON can hold it, half surrogate pairs and nothing included."""


@given(_ANY_TEXT)
def test_a_path_segment_cannot_leave_its_folder(name: str) -> None:
    segment = names.path_segment(name)
    assert re.fullmatch(r"[A-Za-z0-9._%-]{1,200}", segment)
    assert not segment.startswith(".")
    assert not segment.endswith(".")


@given(_ANY_TEXT, _ANY_TEXT)
def test_names_that_differ_have_segments_that_differ(one: str, other: str) -> None:
    assert (names.path_segment(one) == names.path_segment(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("é", "e\u0301"),
        ("A", "a"),
        ("a/b", "a%2Fb"),
        ("a", "a\0"),
        ("\ud800", "\ufffd"),
        ("", "."),
        (".", "%2E"),
        ("a.", "a%2E"),
        ("con", "%63on"),
    ],
)
def test_names_that_look_alike_are_told_apart(one: str, other: str) -> None:
    assert names.path_segment(one) != names.path_segment(other)


def test_a_long_name_becomes_its_hash_not_a_truncation() -> None:
    one, other = names.path_segment("a" * 201), names.path_segment("a" * 202)
    assert one != other
    assert len(one) == len(other) == 64


def test_names_are_percent_encoded_outside_the_plain_characters() -> None:
    assert names.path_segment("../é~ a") == "%2E.%2F%C3%A9%7E%20a"
    assert names.path_segment("ended..") == "ended.%2E"


@pytest.mark.parametrize("name", ["CON", "nul", "Aux.json", "com1", "LPT9.tar.gz"])
def test_a_path_segment_is_no_device_of_windows(name: str) -> None:
    assert names.path_segment(name) == f"%{ord(name[0]):02X}{name[1:]}"
    assert names.path_segment(f"{name[:3]}sole") == f"{name[:3]}sole"


def test_a_harvest_id_is_its_start_in_utc_and_the_querys_hash() -> None:
    started = datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert names.harvest_id(started, "0123456789ab") == "20260328T233000Z-0123456789ab"


def test_a_job_id_keeps_batchs_limit() -> None:
    harvest = names.harvest_id(datetime.now(UTC), "0" * 12)
    assert len(names.job_id(f"harvest-{harvest}", 999)) <= 64
    with pytest.raises(InvalidNameError):
        names.job_id("x" * 64, 1)


def test_another_content_is_another_script_blob() -> None:
    assert names.script_blob("task", ".py", b"a") != names.script_blob("task", ".py", b"b")
    assert names.script_blob("task", ".py", b"a") == names.script_blob("task", ".py", b"a")


def test_ids_are_compared_without_regard_to_case() -> None:
    assert names.same_id("/subscriptions/1/resourceGroups/A", "/subscriptions/1/resourcegroups/a/")
    assert not names.same_id("/subscriptions/1", None)


def test_the_same_grant_has_the_same_name() -> None:
    assert names.role_assignment("/Scope", "p", "r") == names.role_assignment("/scope", "p", "r")
    assert names.role_assignment("/scope", "p", "r") != names.role_assignment("/scope", "q", "r")
