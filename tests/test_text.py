"""What others wrote is shown as text, whatever it holds: on a line of its own, obeyed by nothing."""

import logging
import re
from io import StringIO
from pathlib import Path

import pytest
from hostile_text import HOSTILE
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from flows.console import PlainConsole, guarded
from flows.run import main
from spatiobatch.errors import HarvestError, ShardsFailedError, TaskFailedError, UnknownCollectionError
from spatiobatch.receipts import Receipt
from spatiobatch.text import in_markdown, indented, plain, plain_record, without_markup
from tasks.shard_table import _row

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
"""Text as JSON can hold it, half surrogate pairs included."""
each_hostile_text = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


def obeyed(text: str) -> list[str]:
    """Characters that are not shown but obeyed, line breaks but for the last one included."""
    return [character for character in text.removesuffix("\n") if not character.isprintable()]


@given(ANY_TEXT, st.integers(1, 300))
def test_plain_text_is_printable_bounded_and_stays_as_it_is(text: str, longest: int) -> None:
    shown = plain(text, longest)
    assert shown.isprintable()
    assert len(shown) <= longest
    assert plain(shown, longest) == shown


@pytest.mark.parametrize(
    "text", ["naip", "Höhen über 0", "日本語 🛰️", "e\u0301", "\u05d0\u05d1\u05d2", "[a](b) <c>", r"a\n"]
)
def test_plain_text_is_as_it_was_where_nothing_in_it_is_obeyed(text: str) -> None:
    assert plain(text) == text


def test_what_would_be_obeyed_is_shown_as_pythons_strings_have_it() -> None:
    assert plain("\x1b[1m\r\n\u202e\x9b\0\ud800\u200b\xa0.") == r"\x1b[1m\r\n\u202e\x9b\x00\ud800\u200b ."


def test_marks_beyond_four_are_not_heaped_on_a_letter() -> None:
    assert plain("z" + "\u0301" * 6) == "z" + "\u0301" * 4 + r"\u0301" * 2


@given(ANY_TEXT)
def test_table_cells_hold_the_beginning_of_no_markup(text: str) -> None:
    cell = without_markup(text)
    assert not re.search(r"<[A-Za-z/!?]|\][(\[:]|://|www\.|@", cell, re.IGNORECASE)
    assert without_markup(cell) == cell


@given(ANY_TEXT)
def test_every_character_that_markdown_minds_is_escaped(text: str) -> None:
    bare = re.sub(r"\\.", "", in_markdown(text).replace("<!-- -->", ""))
    assert not re.search(r"[\\`*_{}\[\]<>()#|~!&$]", bare)


@each_hostile_text
def test_error_is_one_sentence_whatever_is_named_in_it(text: str) -> None:
    error = UnknownCollectionError([text], [text])
    assert obeyed(str(error)) == []
    assert str(error).startswith(f"The catalog has no collection {plain(text)}"[:3000])


def test_what_a_node_said_is_below_the_sentence_line_by_line_also_when_another_error_tells_it() -> None:
    first = TaskFailedError("job", "task", "failed:\nno", None, "its stderr ends:", "one\r\n\x1b[2Jtwo\rthree")
    told = "Task task of job job failed:\\nno; its stderr ends:\none\n\\x1b[2Jtwo\\rthree"
    assert str(first) == told
    assert str(ShardsFailedError(first, 3, 0)).endswith(f"is kept. {told}")


@each_hostile_text
def test_nothing_leaves_its_line_of_a_log(text: str) -> None:
    log, logger = StringIO(), logging.Logger("runs")
    logger.addHandler(logging.StreamHandler(log))
    logger.addFilter(plain_record)
    logger.warning("ids: %s and %s", text, [text])
    logger.warning("the probe failed: %s", HarvestError("because:", text))
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("a fault")
    lines = log.getvalue().split("\n")
    assert [line for line in lines if obeyed(line)] == []
    begun = [line for line in lines if line and not line.startswith("  ")]
    assert [line.partition(" ")[0] for line in begun] == ["ids:", "the", "a", "Traceback"]
    assert begun[0].startswith(f"ids: {plain(text)}"[:3000])


def test_a_log_holds_no_secret_of_an_error_that_somebody_else_made() -> None:
    log, logger = StringIO(), logging.Logger("runs")
    logger.addHandler(logging.StreamHandler(log))
    logger.addFilter(plain_record)
    try:
        raise ValueError("GET https://blobs/c?sv=2023&sig=c2VjcmV0")
    except ValueError as error:
        logger.exception("not read: %s", error)
    assert log.getvalue().startswith("not read: GET https://blobs/c?sv=2023&sig=(secret)\n")
    assert "c2VjcmV0" not in log.getvalue()


@each_hostile_text
def test_terminal_shows_every_text_as_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("id", "title")
    table.add_row(text, text)
    out = PlainConsole(force_terminal=True, color_system=None, width=9000)
    out.print(f"removed    {text}")
    out.print(table)
    said = capsys.readouterr().out
    assert said.startswith(indented(f"removed    {text}"))
    assert [line for line in said.split("\n") if obeyed(line)] == []


@each_hostile_text
def test_command_line_fails_with_a_sentence_on_a_line_whatever_is_in_it(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def harvest() -> None:
        raise HarvestError(f"There is no {text}. Its stderr ends:", text)

    def fault() -> None:
        raise ValueError(text)

    assert [guarded(fail, tmp_path) for fail in (harvest, fault)] == [1, 1]
    assert main([text]) == 2
    said = capsys.readouterr().err
    assert [line for line in said.split("\n") if obeyed(line)] == []
    begun = [line for line in said.split("\n") if line and not line.startswith("  ")]
    assert [line[:12] for line in begun] == ["spatiobatch:"] * 3
    assert [line for line in (tmp_path / "fault.txt").read_text().split("\n") if obeyed(line)] == []


def test_table_of_shards_names_collections_without_markup() -> None:
    nothing = {"start": None, "end": None, "count": 0, "ids_hash": 0, "pages": 0, "throttled": 0}
    receipt = Receipt.model_validate({"name": "s", "collection": "![](http://x/y.png)\x1b", **nothing})
    assert _row(receipt, 1, 1)["collection"] == r"![]\x28http\x3a//x/y.png)\x1b"
