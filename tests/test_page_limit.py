"""`--geocatalog-limit` is understood, or a sentence says what to write."""

import subprocess
import sys
from pathlib import Path

import pytest

from local_azure.page_limit import PageLimit, PageLimitError, parse_page_limit


def test_a_limit_names_the_largest_page_and_what_becomes_of_a_larger_one() -> None:
    assert parse_page_limit("1000:refuse") == PageLimit(1000, refuses=True)
    assert parse_page_limit("10000:clamp") == PageLimit(10_000, refuses=False)


@pytest.mark.parametrize("text", ["", "1000", "0:clamp", "10001:clamp", "-1:refuse", "5:cut", "\u0665:clamp"])
def test_a_limit_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(PageLimitError, match="write N:refuse or N:clamp"):
        parse_page_limit(text)


def test_command_line_says_what_to_write(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local_azure", "--env-file", tmp_path / "env", "--geocatalog-limit", "many"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "local_azure: --geocatalog-limit 'many': write N:refuse or N:clamp, N from 1 to 10000"
    ]
