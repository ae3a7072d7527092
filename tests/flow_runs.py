"""Flows run in this process, under Prefect's test harness, against a stand-in.

A pytest plugin (`conftest.py` loads it). A test asks for `prefect_server`, which takes about ten seconds once per
process, and runs flows through a `Site`:

    def test_…(site: Site) -> None:
        changes = site.provision(pool_nodes="1")

Settings of a run are given by the names of `spatiobatch.settings.Settings`; none of them outlives the run.
"""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from conftest import running_azure

if TYPE_CHECKING:
    from azure.batch import BatchClient
    from azure.storage.blob import ContainerClient

    from spatiobatch.changes import Change
    from spatiobatch.manifest import Harvest
    from spatiobatch.query import Query
    from tasks.clients import AzureClients
    from tasks.environment import Environment

QUICK = {"poll_seconds": "0.1", "pool_nodes": "1", "grant_timeout_minutes": "0.5", "node_timeout_minutes": "1"}
"""Settings that spare tests the waiting."""
_TIME = slice(10, 37)
"""Where a line of the record has its time: whole pages of items need not be parsed to see that they are past."""
_WRITES = {"PUT", "PATCH", "POST", "DELETE"}
_READS_BY_POST = ("checkNameAvailability", "comp=userdelegationkey", "/token", "/evaluateautoscale")


def pytest_configure(config: pytest.Config) -> None:
    """Give Prefect a home of its own before anything imports it, since it makes that folder when imported."""
    home = tempfile.mkdtemp(prefix="prefect-")
    os.environ["PREFECT_HOME"] = home
    config.add_cleanup(partial(shutil.rmtree, home, ignore_errors=True))


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server for the flow runs of this process."""
    from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    quiet = {PREFECT_SERVER_ANALYTICS_ENABLED: False, PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(quiet), prefect_test_harness(server_startup_timeout=120):
        yield


@dataclass(frozen=True)
class Site:
    """A stand-in, the settings to meet it with, and what it recorded."""

    variables: dict[str, str]
    """Environment variables, as local_azure's env file has them."""
    record: Path
    settings: dict[str, str] = field(default_factory=dict)

    def with_(self, **settings: str) -> Self:
        """The same stand-in with other settings."""
        return replace(self, settings={**self.settings, **settings})

    def as_(self, **variables: str) -> Self:
        """The same stand-in for somebody else, whom environment variables sign in."""
        others = {name: value for name, value in self.variables.items() if not name.startswith("AZURE_")}
        return replace(self, variables={**others, **variables})

    @contextmanager
    def environment(self) -> Iterator[None]:
        """The environment variables of this site, for a while."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self.variables, **_variables({**QUICK, **self.settings})}.items():
                patch.setenv(name, value)
            yield

    @cached_property
    def azure(self) -> "AzureClients":
        """The SDK clients of whoever is signed in here."""
        from spatiobatch.settings import load_settings
        from tasks.clients import AzureClients

        with self.environment():
            azure = AzureClients(load_settings())
            # Credentials look for whom to sign in when first used.
            for scope in (azure.cloud.arm_scope, azure.cloud.batch_scope, azure.cloud.storage_scope):
                azure.credential.get_token(scope)
        return azure

    def provision(self, **parameters: Any) -> "list[Change]":
        """Run the provisioning flow."""
        from flows.provision import provision

        with self.environment():
            return provision(**parameters)

    def harvest(self, *arguments: Any, **parameters: Any) -> "Harvest":
        """Run the harvest flow."""
        from flows.harvest import harvest

        with self.environment():
            return harvest(*arguments, **parameters)

    def teardown(self, confirm: str | None = None, **parameters: Any) -> list[str]:
        """Run the teardown flow, confirmed rightly unless told otherwise."""
        from flows.teardown import teardown

        with self.environment():
            name = os.environ.get("SPATIOBATCH_RESOURCE_GROUP", "spatiobatch")
            return teardown(confirm=name if confirm is None else confirm, **parameters)

    @property
    def now(self) -> str:
        """The present as the record writes it; a request's line may come a moment after its answer."""
        return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def requests(self, since: str = "") -> list[dict[str, Any]]:
        """What the stand-in was asked from that moment on."""
        lines = self.record.read_bytes().splitlines(keepends=True) if self.record.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]  # the last one may still be being written
        return [json.loads(line) for line in whole if line[_TIME] >= since.encode()]

    def writes(self, since: str = "") -> list[str]:
        """`METHOD URL` of what changed something in ARM, blobs or Batch from that moment on."""
        return [
            f"{request['method']} {request['url']}"
            for request in self.requests(since)
            if request["method"] in _WRITES
            and request["service"] in ("arm", "batch", "blob")
            and not any(read in request["url"] for read in _READS_BY_POST)
        ]


def assign(site: Site, role: str, principal_id: str, scope: str) -> None:
    """Give somebody a role, as whoever may would do."""
    from tasks.roles import ROLES

    provider = f"/subscriptions/{site.azure.settings.subscription_id}/providers/Microsoft.Authorization"
    body = {
        "roleDefinitionId": f"{provider}/roleDefinitions/{ROLES.get(role, role)}",
        "principalId": principal_id,
        "principalType": "ServicePrincipal",
    }
    site.azure.authorization.role_assignments.create(scope, str(uuid.uuid4()), {"properties": body})


def unregister_providers(site: Site) -> None:
    """Leave the subscription as it is before anybody has used it."""
    from tasks.resource_group import PROVIDERS

    for namespace in PROVIDERS:
        site.azure.resources.providers.unregister(namespace)


def _variables(settings: dict[str, str]) -> dict[str, str]:
    return {f"SPATIOBATCH_{name.upper()}": value for name, value in settings.items()}


@contextmanager
def running_site(folder: Path, *flags: str, **settings: str) -> Iterator[Site]:
    """A fresh stand-in that records, for the time of a `with`."""
    record = folder / "record.ndjson"
    with running_azure(folder, "--record", str(record), *flags) as variables:
        yield Site(variables, record, settings)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """One stand-in for the flow runs of a module that do not disturb each other; waits of Azure's own take no time."""
    with running_site(tmp_path_factory.mktemp("site"), "--clock", "instant") as site:
        yield site


@pytest.fixture
def site(shared_site: Site, request: pytest.FixtureRequest) -> Site:
    """The module's stand-in with a resource group that no other test uses."""
    from spatiobatch.names import digest

    return shared_site.with_(resource_group=f"test-{digest(request.node.name, 8)}")


@pytest.fixture
def environment(provisioned: Site) -> "Iterator[Environment]":
    """What a module's own `provisioned` site has built, for steps that are called outside of a run."""
    from prefect.logging import disable_run_logger

    from tasks.environment import read_environment

    with provisioned.environment(), disable_run_logger():
        yield read_environment.fn(provisioned.azure)


@pytest.fixture
def batch(provisioned: Site, environment: "Environment") -> "Iterator[BatchClient]":
    """The account's jobs, none of which a test may leave active."""
    batch = provisioned.azure.batch(environment.batch_endpoint)
    yield batch
    assert [job.id for job in batch.list_jobs(filter="state eq 'active'")] == []


@pytest.fixture
def results(provisioned: Site, environment: "Environment") -> "ContainerClient":
    """The container that harvests are kept in."""
    from tasks.environment import results

    return results(provisioned.azure, environment)


@pytest.fixture
def query(request: pytest.FixtureRequest) -> "Query":
    """A query of items that no other test has."""
    from spatiobatch.query import query_from

    return query_from(content="items", collections=(request.node.name,))
