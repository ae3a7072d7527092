"""A fault is what its specification says; one that cannot be understood is refused with a sentence."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_azure.faults import Faults, FaultSpecError, parse_fault


def test_a_fault_passes_then_strikes_then_passes_again() -> None:
    faults = Faults([parse_fault(r"service=batch,method=post,path=/jobs/a\x2cb,status=503,after=1,times=2")])
    struck = [faults.strike("batch", "POST", "/account/jobs/a,b") is not None for _ in range(5)]
    assert struck == [False, True, True, False, False]


def test_a_fault_leaves_other_requests_alone() -> None:
    faults = Faults([parse_fault("service=batch,method=POST,path=/jobs$,action=drop,times=inf")])
    assert faults.strike("blob", "POST", "/jobs") is None
    assert faults.strike("batch", "GET", "/jobs") is None
    assert faults.strike("batch", "POST", "/jobs/1") is None
    assert faults.strike("batch", "POST", "/jobs") is not None


def test_the_first_fault_that_matches_wins() -> None:
    faults = Faults([parse_fault("service=arm,status=500"), parse_fault("service=arm,status=429,retry_after=3")])
    first, second = faults.strike("arm", "GET", "/"), faults.strike("arm", "GET", "/")
    assert first is not None
    assert second is not None
    assert (first.status, second.status, second.retry_after) == (500, 429, 3)


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "status=500",
        "service=arm",
        "service=moon,status=500",
        "service=arm,status=500,action=drop",
        "service=arm,status=99",
        "service=arm,status=500,colour=red",
        "service=arm,status=500,status=501",
        "service=arm,status=500,times=-1",
        "service=arm,status=500,retry_after=1.5",
        "service=arm,status=500,path=(",
        "service=arm,action=kill",
        "service=node,status=500",
        "service=node,action=kill,delay=nan",
    ],
)
def test_a_specification_that_makes_no_sense_is_refused(spec: str) -> None:
    with pytest.raises(FaultSpecError, match="fault"):
        parse_fault(spec)


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    with contextlib.suppress(FaultSpecError):
        assert parse_fault(f"service=arm,status=500,{text}").service == "arm"


@pytest.mark.parametrize(
    "flags",
    [
        ["--fault", "service=moon,status=500"],
        ["--record", "missing/folder/record"],
        ["--clock", "sundial"],
        ["--nodes", "0"],
        ["--catalog", "missing"],
    ],
    ids=lambda flags: flags[0],
)
def test_the_stand_in_refuses_wrong_flags_with_exit_code_2(flags: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local_azure", "--env-file", str(tmp_path / "E"), *flags]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "E").exists()
