"""A catalog all of whose names and titles are hostile: what a command line that harvests it says, and what it logs."""

import json
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from catalogs import collection
from flow_runs import Site, running_site
from hostile_text import HOSTILE

from flows.run import main
from spatiobatch.text import plain

Said = tuple[int, list[str], list[str], list[str]]
"""Exit code, lines of standard output and of standard error, and of the log."""
TEXTS = [text for text in HOSTILE.values() if "\ud800" not in text]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """An environment before that catalog."""
    folder = tmp_path_factory.mktemp("site")
    catalog = folder / "catalog"
    catalog.mkdir()
    found = [collection(1, id=text, title=text, license=text) for text in TEXTS]
    (catalog / "collections.ndjson").write_text("".join(json.dumps(each) + "\n" for each in found))
    (catalog / "items.ndjson").touch()
    with running_site(folder, "--catalog", str(catalog), "--clock", "instant", resource_group="hostile") as site:
        site.provision()
        yield site


@pytest.fixture
def said(built: Site, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[..., Said]:
    """What a command line in this process says."""

    def say(*arguments: str) -> Said:
        handler = signal.getsignal(signal.SIGTERM)
        with built.environment(), caplog.at_level(logging.INFO):
            capfd.readouterr()
            code = main(list(arguments))
        signal.signal(signal.SIGTERM, handler)
        out, err = capfd.readouterr()
        return code, out.split("\n"), err.split("\n"), caplog.text.split("\n")

    return say


def test_harvest_shows_every_name_and_obeys_none(said: Callable[..., Said], tmp_path: Path) -> None:
    code, out, err, log = said("harvest", "--output", str(tmp_path))
    assert code == 0
    assert [line for line in (*out, *err, *log) if not line.isprintable()] == []
    assert f"{len(TEXTS)} collections" in out
    assert {text for text in TEXTS if not any(line.startswith(plain(text, 120).rstrip()) for line in out)} == set()
    assert out[-2].startswith("Artifact  ")
    rows = out[out.index(f"{len(TEXTS)} collections") + 3 : -5]
    assert len(rows) == len(TEXTS)


def test_collection_that_is_not_there_is_one_sentence_whatever_its_name(
    said: Callable[..., Said],
) -> None:
    code, out, err, log = said("harvest", *(word for text in TEXTS for word in ("--collection", f"no {text}")))
    assert (code, out) == (1, [""])
    assert [line for line in (*err, *log) if not line.isprintable()] == []
    assert [line[:42] for line in err if "spatiobatch:" in line] == ["spatiobatch: The catalog has no collection"]
