"""local_azure refuses what Azure documents that it refuses, with the same status and code."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import refusals_arm
import refusals_batch
import refusals_blob
import refusals_geocatalog
import refusals_identity
import refusals_sas
from refusals import Refusal
from world import World, small_world

_TABLE = {
    "Azure Resource Manager": refusals_arm.ROWS,
    "Entra, Graph and the instance metadata service": refusals_identity.ROWS,
    "Batch": refusals_batch.ROWS,
    "Blob storage": refusals_blob.ROWS,
    "Shared access signatures and keys": refusals_sas.ROWS,
    "GeoCatalog": refusals_geocatalog.ROWS,
}
_ROWS = [row for rows in _TABLE.values() for row in rows]
_PAGE = Path(__file__).parents[1] / "docs" / "refusals.md"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, small_world(tmp_path_factory.mktemp("world"), patch.setenv) as made:
        yield made


@pytest.fixture(autouse=True)
def _signed_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in world.settings.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("refusal", _ROWS, ids=lambda row: row.sentence)
def test_what_azure_refuses_is_refused(world: World, refusal: Refusal) -> None:
    assert refusal.call(world) == (refusal.status, refusal.code)


def test_table_has_sixty_refusals_of_every_service_and_status_with_their_pages() -> None:
    assert len(_ROWS) >= 60
    assert len({row.sentence for row in _ROWS}) == len(_ROWS)
    assert all(len(rows) >= 8 for rows in _TABLE.values())
    assert {row.status for row in _ROWS} >= {401, 403, 404, 409, 412, 413, 429}
    assert all(row.page.startswith("https://learn.microsoft.com/") for row in _ROWS)


def test_documentation_lists_the_table_as_it_is() -> None:
    assert _PAGE.read_text() == _documented()


def _documented() -> str:
    text = (
        "# What local_azure refuses\n\n"
        f"{len(_ROWS)} requests that Azure documents it refuses, each with its page. `tests/test_local_refusals.py` "
        "sends them all, and holds this list.\nA page says that the request is refused; where it names no code, the "
        "code is the one that the service is known to answer with.\n"
    )
    for service, rows in _TABLE.items():
        text += f"\n## {service}\n\n| refused | status | code |\n| --- | --- | --- |\n"
        text += "".join(f"| [{row.sentence}]({row.page}) | {row.status} | {row.code} |\n" for row in rows)
    return text
