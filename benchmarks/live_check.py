"""`python -m benchmarks.live_check`: is `local_azure` still like Azure?

One cheap pass (provision with its probe, harvest of collections, teardown) on a subscription and on a fresh
`local_azure`, observed; the statuses and shapes of all answers are compared. Without an environment, two stand-ins are
compared with each other, which shows that the check itself works.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Annotated

import requests
import typer
from rich.console import Console

from benchmarks.comparison import DisagreementError, Finding, compare, fields_read
from benchmarks.observation import Call, observed
from benchmarks.stand_in import local_azure, variables
from flows.console import err, guarded, story
from spatiobatch.clouds import Cloud
from spatiobatch.errors import ConfigurationError, ProvisioningError
from spatiobatch.settings import ENVIRONMENT_VARIABLE, Settings, load_settings

RECORDS = Path(".spatiobatch") / "live-check"
"""Where the observed calls are kept, below the working directory."""

_SUFFIX = "-livecheck"
_CHEAP = {
    "SPATIOBATCH_STORAGE_ACCOUNT": "",
    "SPATIOBATCH_BATCH_ACCOUNT": "",
    "SPATIOBATCH_POOL_NODES": "1",
    "SPATIOBATCH_POOL_SCALING": "fixed",
    "SPATIOBATCH_JOB_END": "delete",
}
"""Accounts of its own, and one node."""
_CARRIED = [name for name in Settings.model_fields if name.startswith("pool_") and name != "pool_subnet_id"] + [
    "location", "identity", "pool", "scripts_container", "results_container", "geocatalog_role", "script_access",
]  # fmt: skip
"""Settings that form the calls and mean the same on every cloud; subnets, subscriptions and addresses do not."""
_REACH_SECONDS = 10
_NO_WAITING = ("--clock", "instant")

cli = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
out = Console(soft_wrap=True, highlight=False)


@cli.command()
def live_check(
    environment: Annotated[
        Path | None, typer.Option(help="TOML file of a real environment, such as deployments/azure.toml.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, this may cost money.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave what was built where it is.")] = False,
) -> None:
    """Compare local_azure with Azure, call by call, on one cheap pass."""
    with tempfile.TemporaryDirectory(prefix="live-check-") as temporary:
        folder = Path(temporary)
        flags = () if environment else _NO_WAITING
        if environment:
            real, formed = _pass_on_azure(environment, confirmed=yes, keep=keep)
        else:
            real, formed = _pass_on_stand_in("second", folder / "second", {}, keep=keep, flags=flags), {}
        local = _pass_on_stand_in("local", folder / "local", formed, keep=keep, flags=flags)
    report(compare(real, local, fields_read()), len({call.title for call in real + local}))


def _pass_on_azure(environment: Path, *, confirmed: bool, keep: bool) -> tuple[list[Call], dict[str, str]]:
    """The pass on the environment's subscription, and the settings that the stand-in's pass must share."""
    with variables({ENVIRONMENT_VARIABLE: str(environment)}):
        group = load_settings().resource_group + _SUFFIX
        with variables({**_CHEAP, "SPATIOBATCH_RESOURCE_GROUP": group}):
            settings = load_settings()
            err.print(_warning(settings, keep=keep), markup=False)
            if not confirmed:
                raise ConfigurationError(
                    f"Nothing was done; to go on: python -m benchmarks.live_check --environment {environment} --yes"
                )
            _check_reach(settings.endpoints)
            _check_sign_in(settings)
            return _observed_pass("azure", settings, keep=keep), _formed_like(settings)


def _warning(settings: Settings, *, keep: bool) -> str:
    after = "It is KEPT and costs until you delete it" if keep else "It is deleted at the end"
    return (
        f"This costs money: about half an hour of {settings.pool_nodes} {settings.pool_vm_size}, a storage account and "
        f"a Batch account, in resource group {settings.resource_group} of subscription {settings.subscription_id}, "
        f"{settings.location}; its node's identity gets {settings.geocatalog_role} on "
        f"{settings.geocatalog_id or 'no GeoCatalog'}. {after}."
    )


def _check_reach(cloud: Cloud) -> None:
    """Ask before the SDKs do: they would try for minutes.

    Raises:
        ProvisioningError: there is no way to Azure.
    """
    address = f"{cloud.arm}/metadata/endpoints?api-version=2022-09-01"
    try:
        requests.get(
            address,
            auth=lambda request: request,  # keeps requests from a .netrc
            timeout=_REACH_SECONDS,
            verify=str(cloud.ca_file) if cloud.ca_file else True,
        )
    except requests.RequestException as error:
        raise ProvisioningError(
            f"Azure cannot be reached at {cloud.arm} ({type(error).__name__}): run this where there is a network."
        ) from error


def _check_sign_in(settings: Settings) -> None:
    """Fail before anything is built that nobody could then remove."""
    from tasks.clients import AzureClients  # noqa: PLC0415  # Prefect takes seconds to import

    settings.endpoints.required_geocatalog_scope()
    _ = AzureClients(settings).operator


def _formed_like(settings: Settings) -> dict[str, str]:
    values = settings.model_dump(mode="json", include=set(_CARRIED), exclude_none=True)
    return {f"SPATIOBATCH_{name.upper()}": str(value) for name, value in values.items()}


def _pass_on_stand_in(
    side: str, folder: Path, formed: Mapping[str, str], *, keep: bool, flags: tuple[str, ...]
) -> list[Call]:
    own = {"SPATIOBATCH_RESOURCE_GROUP": f"spatiobatch{_SUFFIX}", "SPATIOBATCH_POLL_SECONDS": "0.2"}
    with local_azure(folder, *flags) as address, variables({**address, **_CHEAP, **formed, **own}, clean=True):
        return _observed_pass(side, load_settings(), keep=keep)


def _observed_pass(side: str, settings: Settings, *, keep: bool) -> list[Call]:
    """Build, harvest and remove, and keep what was seen, whatever becomes of it."""
    from flows.harvest import harvest  # noqa: PLC0415  # Prefect takes seconds to import
    from flows.provision import provision  # noqa: PLC0415

    with observed(settings) as observer:
        try:
            with _removed(side, settings, keep=keep):
                with story(f"Provisioning ({side})"):
                    provision()
                with story(f"Harvesting ({side})"):
                    harvest()
        finally:
            observer.write(RECORDS / f"{side}.jsonl")
    return observer.calls


@contextmanager
def _removed(side: str, settings: Settings, *, keep: bool) -> Iterator[None]:
    """Remove what is built inside, after a failure too: it costs money."""
    try:
        yield
    finally:
        if not keep:
            _remove(side, settings.resource_group)


def _remove(side: str, group: str) -> None:
    from flows.teardown import teardown  # noqa: PLC0415  # Prefect takes seconds to import

    try:
        with story(f"Removing ({side})"):
            teardown(confirm=group, delete_results=True)
    except Exception as error:
        raise ProvisioningError(
            f"Resource group {group} ({side}) could not be removed ({error}). On Azure it costs money until you do: "
            f"az group delete --name {group}"
        ) from error


def report(findings: list[Finding], calls: int) -> None:
    """Print what differs, by call, and one line that sums it up.

    Raises:
        DisagreementError: one of the findings is more than a note.
    """
    for call, of_call in groupby(findings, key=lambda finding: finding.call):
        out.print(call, style="bold", markup=False)
        for finding in of_call:
            out.print(f"  {'differs' if finding.disagrees else 'noted':<8} {finding.what}", markup=False)
    disagreements = sum(finding.disagrees for finding in findings)
    if disagreements:
        raise DisagreementError(disagreements, calls, RECORDS)
    out.print(f"{calls} kinds of calls compared, {len(findings)} differences noted: local_azure agrees.")


if __name__ == "__main__":
    sys.exit(guarded(lambda: cli(standalone_mode=False), RECORDS.parent))
