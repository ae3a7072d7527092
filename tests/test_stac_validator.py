"""Stac-api-validator, which nobody here wrote, finds no error in the local GeoCatalog but those that a table explains.

It finds them in the generation of stac-fastapi-pgstac behind the service, too.
"""

import re
from pathlib import Path

import pytest
from conftest import running_azure
from stac_judge import findings
from stac_session import reader

from benchmarks.pgstac import ANCESTOR, missing, running_pgstac
from local_azure.geocatalog import demo

ITEMS = 200
EXPLAINED = {
    r"service-desc\] must return 200|^service-desc .* media type": "its request of the description has no token",
    r'body=\{"fields": null\} had .* 200 instead of 400': "stac-fastapi takes it for no fields",
    r"'exclude': \['geometry'\], 'include': (\[\]|None)\}\} response contained 'properties\.": "nothing excludes it",
    r"'include': \['properties\.eo:cloud_cover'\]\}\} response contained fewer than 5 fields": "it was asked for alone",
    r"content-type header is application/json instead of 'application/geo\+json'": "reduced items are plain JSON",
    r"response missing '(geometry|properties\.eo:cloud_cover)'": "what is excluded is not there, included or not",
    r'"collections": "optical-scenes"\} had unexpected status code 400': "by POST, collections are an array",
}
"""What it takes for errors, by how it says so, and why they are none."""


def judged(folder: Path, *options: str) -> set[str]:
    """What it finds in a stand-in of these options."""
    with running_azure(folder, *options) as settings, reader(settings) as stac:
        return findings(stac, "optical-scenes", "properties.eo:cloud_cover")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of the demo catalog, with the pages of the client's documentation, for which the validator asks."""
    flags = ("--demo-items", str(ITEMS), "--geocatalog-limit", "10000:clamp")
    return judged(tmp_path_factory.mktemp("ours"), *flags)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of the same catalog in pgstac, behind the door of a stand-in."""
    items = [body for _, body in demo.items(ITEMS)]
    with running_pgstac(list(demo.collections()), items, ANCESTOR) as address:
        return judged(tmp_path_factory.mktemp("theirs"), "--stac-upstream", address)


def kinds(found: set[str]) -> set[str]:
    """Which of the explained findings there are."""
    return {pattern for pattern in EXPLAINED for each in found if re.search(pattern, each)}


def test_the_validator_finds_no_error_that_is_not_explained(ours: set[str]) -> None:
    assert [each for each in ours if not kinds({each})] == []


def test_every_explanation_is_of_something_that_the_validator_finds(ours: set[str]) -> None:
    assert kinds(ours) == set(EXPLAINED)


@pytest.mark.skipif(bool(missing(ANCESTOR)), reason=missing(ANCESTOR))
def test_the_validator_finds_the_same_in_pgstac(theirs: set[str]) -> None:
    assert kinds(theirs) == set(EXPLAINED)
