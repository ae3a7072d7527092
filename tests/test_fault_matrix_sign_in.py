"""Steps whose requests no name tells apart, under every kind of fault: signing in and registering providers."""

from pathlib import Path

import pytest
from fault_matrix import KINDS, READ_TIMEOUT_SECONDS, Taken, hurried, judge, sentence, strikes
from fault_report import Tally
from flow_runs import running_site, unregister_providers
from prefect.logging import disable_run_logger

from spatiobatch.settings import load_settings
from tasks.clients import AzureClients
from tasks.resource_group import PROVIDERS, register_providers

PROVIDER = "service=arm,path=/providers/Microsoft.[A-Za-z]+(/register)?$"


def flags(aim: str, kind: str, times: str) -> list[str]:
    """The stand-in's options for one kind of fault."""
    return [word for fault in KINDS[kind] for word in ("--fault", f"{aim},{fault},times={times}")]


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
    assert strikes(tmp_path / "azure.log", "identity") == len(KINDS[kind])


@pytest.mark.parametrize("kind", ["5xx", "drop", "hang"])
def test_whoever_gets_no_token_is_told_so_in_one_sentence(kind: str, tmp_path: Path, tally: Tally) -> None:
    faults = flags("service=identity", kind, "inf")
    with (
        running_site(tmp_path, *faults) as site,
        site.with_(read_timeout_seconds=str(READ_TIMEOUT_SECONDS)).environment(),
        hurried(),
    ):
        azure = AzureClients(load_settings())
        with pytest.raises(Exception) as refusal:  # noqa: PT011  # whatever it is must have a sentence
            register_providers.fn(azure)
    assert "az login" in sentence(refusal.value)
    tally.ends("refused", strikes(tmp_path / "azure.log", "identity"))


@pytest.mark.parametrize("kind", list(KINDS))
def test_whoever_had_a_token_gets_the_next_one_late(kind: str, tmp_path: Path, tally: Tally) -> None:
    faults = [
        flag.replace(",times", ",after=1,times") for flag in flags("service=identity", kind, str(8 // len(KINDS[kind])))
    ]
    with (
        running_site(tmp_path, *faults) as site,
        site.with_(read_timeout_seconds=str(READ_TIMEOUT_SECONDS)).environment(),
        hurried(),
    ):
        azure = AzureClients(load_settings())
        azure.credential.get_token(azure.cloud.arm_scope)
        assert azure.credential.get_token(azure.cloud.batch_scope).token
    tally.ends("survived", strikes(tmp_path / "azure.log", "identity"))
