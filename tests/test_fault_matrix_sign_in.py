"""Steps whose requests no name tells apart, under every kind of fault: signing in and registering providers."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_cases import ANSWERS, KINDS
from fault_matrix import READ_TIMEOUT_SECONDS, Taken, fault, hurried, judge, strikes
from fault_report import Tally
from flow_runs import running_site, unregister_providers
from prefect.logging import disable_run_logger

from spatiobatch.errors import SignInError
from spatiobatch.settings import load_settings
from tasks.clients import AzureClients
from tasks.resource_group import PROVIDERS, register_providers
from tasks.roles import Grant, ensure_role

PROVIDER = "service=arm,path=/providers/Microsoft.[A-Za-z]+(/register)?$"


def flags(aim: str, kind: str, times: str) -> list[str]:
    """The stand-in's options for one kind of fault."""
    return [word for what in words(kind) for word in ("--fault", f"{aim},{fault(what)},times={times}")]


def words(kind: str) -> tuple[str, ...]:
    """What strikes, one after the other."""
    return {"5xx": ANSWERS[:1], "5xx-mixed": ANSWERS}.get(kind, (kind,))


@pytest.mark.parametrize(
    ("kind", "times"),
    [("429", "2"), ("5xx", "20"), ("5xx-mixed", "1"), ("drop", "1"), ("hang", "2"), ("truncate", "20")],
)
def test_providers_are_registered_by_whoever_gets_a_token_late(
    kind: str, times: str, tmp_path: Path, tally: Tally
) -> None:
    faults = flags("service=identity,after=1", kind, "1") + flags(PROVIDER, kind, times)
    with (
        running_site(tmp_path, "--clock", "instant", *faults) as site,
        site.with_(read_timeout_seconds=str(READ_TIMEOUT_SECONDS)).environment(),
        disable_run_logger(),
        hurried(),
    ):
        unregister_providers(site)
        azure = AzureClients(load_settings())
        registered = lambda _: all(  # noqa: E731
            azure.resources.providers.get(name).registration_state == "Registered" for name in PROVIDERS
        )
        struck = lambda: strikes(tmp_path / "azure.log", "")  # noqa: E731
        judge(Taken(register_providers, (azure,), registered), tally, struck)
    assert strikes(tmp_path / "azure.log", "identity") == len(words(kind))


@contextmanager
def operator(folder: Path, *faults: str) -> Iterator[AzureClients]:
    """Somebody on a fresh stand-in, for whom pauses take no time."""
    with (
        running_site(folder, *faults) as site,
        site.with_(read_timeout_seconds=str(READ_TIMEOUT_SECONDS)).environment(),
        disable_run_logger(),
        hurried(),
    ):
        yield AzureClients(load_settings())


@pytest.mark.parametrize(("kind", "said"), [("5xx", "answers with 500"), ("drop", "does not answer")])
def test_whoever_gets_no_token_is_told_that_the_endpoint_is_out_of_order(
    kind: str, said: str, tmp_path: Path, tally: Tally
) -> None:
    with (
        operator(tmp_path, *flags("service=identity", kind, "inf")) as azure,
        pytest.raises(SignInError, match=f"No token can be had: http://127.0.0.1:[0-9]+ {said}"),
    ):
        register_providers.fn(azure)
    tally.ends("refused", strikes(tmp_path / "azure.log", "identity"))


def test_an_endpoint_that_hangs_is_not_taken_for_a_grant_that_is_missing(tmp_path: Path, tally: Tally) -> None:
    with operator(tmp_path, *flags("service=identity", "hang", "inf")) as azure:
        grant = Grant("Storage Blob Data Contributor", str(uuid.uuid4()), "User", azure.settings.arm_id())
        with pytest.raises(SignInError, match="does not answer"):
            ensure_role.fn(azure, grant)
    tally.ends("refused", strikes(tmp_path / "azure.log", "identity"))


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_asks_for_a_first_token_gets_it_late(kind: str, tmp_path: Path, tally: Tally) -> None:
    with operator(tmp_path, *flags("service=identity", kind, "8")) as azure:
        assert azure.credential.get_token(azure.cloud.arm_scope).token
    tally.ends("survived", strikes(tmp_path / "azure.log", "identity"))


@pytest.mark.parametrize("kind", ["5xx-mixed", "truncate"])
def test_whoever_had_a_token_gets_the_next_one_late(kind: str, tmp_path: Path, tally: Tally) -> None:
    with operator(tmp_path, *flags("service=identity,after=1", kind, "2")) as azure:
        azure.credential.get_token(azure.cloud.arm_scope)
        assert azure.credential.get_token(azure.cloud.batch_scope).token
    tally.ends("survived", strikes(tmp_path / "azure.log", "identity"))
