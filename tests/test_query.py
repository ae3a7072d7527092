"""A query is validated once, for the command line, the form and the deployments alike."""

from typing import Any

import pytest

from spatiobatch.errors import ConfigurationError
from spatiobatch.query import Content, Query, query_from


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("2024-01-01/2024-02-01", "2024-01-01T00:00:00Z/2024-02-01T00:00:00Z"),
        ("2024-01-01T00:00:00+01:00/..", "2023-12-31T23:00:00Z/.."),
        ("../2024-02-29", "../2024-02-29T00:00:00Z"),
        ("/2024-02-29T12:00:00.000001Z", "../2024-02-29T12:00:00.000001Z"),
    ],
)
def test_an_interval_is_brought_to_one_form(given: str, normal: str) -> None:
    assert query_from(content="items", datetime=given).datetime == normal


@pytest.mark.parametrize(
    "given", ["2024", "2024-13-01/..", "2023-02-29/..", "../..", "2024-02-01/2024-01-01", "a/b", "2024-01-01/x/y", ""]
)
def test_a_malformed_interval_is_one_sentence(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^datetime: "):
        query_from(content="items", datetime=given)


def test_a_box_may_cross_the_antimeridian() -> None:
    assert query_from(content="items", bbox="170,-20,-170,10").bbox == (170, -20, -170, 10)


@pytest.mark.parametrize("given", ["1,2,3", "a,b,c,d", "0,10,0,-10", "0,0,181,0", "nan,0,0,0", ""])
def test_a_malformed_box_is_one_sentence(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^bbox: "):
        query_from(content="items", bbox=given)


def test_the_order_of_collections_does_not_change_the_hash() -> None:
    assert Query(collections=("a", "b")).hash == Query(collections=("b", "a", "a")).hash
    assert Query(collections=("a",)).hash != Query(collections=("b",)).hash
    assert Query().hash != Query(content=Content.items).hash


def test_the_size_of_pages_does_not_change_the_hash() -> None:
    assert Query(content=Content.items, page_size=10).hash == Query(content=Content.items).hash


@pytest.mark.parametrize("given", [0, 10_001])
def test_a_page_size_that_no_catalog_gives_is_one_sentence(given: int) -> None:
    with pytest.raises(ConfigurationError, match=r"^page_size: "):
        query_from(content="items", page_size=given)


def test_only_items_can_be_narrowed_by_place_and_time() -> None:
    with pytest.raises(ConfigurationError, match="content items"):
        query_from(bbox="1,2,3,4")


def test_every_field_of_the_form_explains_itself() -> None:
    fields = Query.model_json_schema()["properties"]
    assert all(field.get("description") and field.get("title") for field in fields.values())


@pytest.mark.parametrize(
    ("asked", "title"),
    [
        ({}, "collections"),
        ({"collections": ("naip",)}, "collections of naip"),
        ({"content": "items"}, "items of all collections"),
        ({"content": "items", "collections": tuple("abcde")}, "items of a, b, c and 2 more"),
        (
            {"content": "items", "datetime": "2024-01-01/..", "bbox": "-10.5,35,5,44", "filter": "a <\n 3"},
            "items of all collections, 2024-01-01/.., within -10.5,35,5,44, where a < 3",
        ),
    ],
)
def test_a_question_has_a_title_of_one_line(asked: dict[str, Any], title: str) -> None:
    assert query_from(**asked).title == title
