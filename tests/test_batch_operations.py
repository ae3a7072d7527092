"""Every operation that Batch has is either answered, or refused with a logged 501 that the documentation lists.

The operations are those that azure-batch can ask for, and those of the swagger where it is at hand.
"""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from azure.batch._operations import _operations as requests_of_the_sdk
from azure.core.rest import HttpRequest
from conftest import running_azure
from local_pools import Batch, batch_account
from schemas import SWAGGER
from world import Answer, refused_by

PAGE = (Path(__file__).parent.parent / "docs" / "local-azure.md").read_text()
NOBODY = "nobody"
"""What every variable of a path is replaced with: nothing of that name is there."""


class Operation(NamedTuple):
    """One operation of the service."""

    method: str
    path: str
    """With `{}` for each variable."""

    @property
    def address(self) -> str:
        """The path of something that is not there."""
        return self.path.replace("{}", NOBODY)


class World(NamedTuple):
    """A stand-in of this module's own."""

    batch: Batch
    log: Path


@pytest.fixture(scope="module")
def running_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("azure")
    with pytest.MonkeyPatch.context() as environment, running_azure(folder) as settings:
        for name, value in settings.items():
            environment.setenv(name, value)
        with batch_account(settings) as batch:
            yield World(batch, folder / "azure.log")


@pytest.fixture
def world(running_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """That stand-in, with the clients pointed at it."""
    for name, value in running_world.batch.settings.items():
        monkeypatch.setenv(name, value)
    return running_world


def of_the_sdk() -> set[Operation]:
    """What azure-batch's own makers of requests ask for."""
    makers = inspect.getmembers(
        requests_of_the_sdk, lambda found: inspect.isfunction(found) and found.__name__.startswith("build_")
    )
    return {Operation(made.method, made.url.partition("?")[0].replace(NOBODY, "{}")) for made in map(asked, makers)}


def asked(maker: tuple[str, object]) -> HttpRequest:
    """The request that a maker makes about nobody."""
    _, make = maker
    assert callable(make)
    parts = inspect.signature(make).parameters.values()
    names = [NOBODY for part in parts if part.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD]
    try:
        made = make(*names)
    except KeyError:  # Where there is a body, its type is asked for.
        made = make(*names, content_type="application/json")
    assert isinstance(made, HttpRequest)
    return made


def of_the_swagger() -> set[Operation]:
    paths = json.loads(SWAGGER.read_text())["paths"]
    return {Operation(way.upper(), without_names(path)) for path, ways in paths.items() for way in ways}


def documented() -> set[Operation]:
    """The operations that the documentation lists as not imitated."""
    section = PAGE.partition("### Answered 501")[2].partition("\n## ")[0]
    return {Operation(way, without_names(path)) for way, path in re.findall(r"`([A-Z]+) (/[^`]+)`", section)}


def without_names(path: str) -> str:
    return re.sub(r"{\w+}", "{}", path)


def refused(world: World, operations: set[Operation]) -> set[Operation]:
    """Those that are answered with a 501, each of which is logged."""
    found = {operation for operation in operations if status(world.batch, operation) == 501}
    log = world.log.read_text()
    silent = [one for one in found if f"no route for {one.method} /{world.batch.account}{one.address}" not in log]
    assert silent == []
    return found


def status(batch: Batch, operation: Operation) -> int:
    return sent(batch, operation.method, operation.address, {}).status


def sent(batch: Batch, method: str, path: str, body: dict[str, Any]) -> Answer:
    """What the service says to a request as it is."""
    given = body if method in ("POST", "PUT", "PATCH") else None
    request = HttpRequest(method, f"{path}?api-version=2025-06-01", json=given)
    return refused_by(lambda: batch.client.send_request(request))


def test_what_azure_batch_can_ask_for_is_answered_or_listed_as_501(world: World) -> None:
    operations = of_the_sdk()
    assert len(operations) >= 70
    assert refused(world, operations) == operations & documented()


@pytest.mark.skipif(not SWAGGER.exists(), reason="Microsoft's swagger of Batch is not at hand")
def test_what_the_swagger_names_is_answered_or_listed_as_501(world: World) -> None:
    operations = of_the_swagger()
    assert refused(world, operations) == operations & documented()
    assert documented() <= operations | of_the_sdk()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs", {"id": "j", "poolInfo": {"autoPoolSpecification": {"poolLifetimeOption": "job"}}}),
        ("/jobs", {"id": "j", "poolInfo": {"poolId": "p"}, "jobPreparationTask": {"commandLine": "true"}}),
        ("/jobs", {"id": "j", "poolInfo": {"poolId": "p"}, "jobReleaseTask": {"commandLine": "true"}}),
        ("/pools", {"id": "p", "vmSize": "standard_d2s_v3", "applicationPackageReferences": [{"applicationId": "a"}]}),
    ],
)
def test_part_of_a_job_or_pool_that_is_not_imitated_is_a_logged_501(
    world: World, path: str, body: dict[str, Any]
) -> None:
    before = world.log.stat().st_size
    assert sent(world.batch, "POST", path, body) == Answer(501, "NotImplemented")
    assert "local_azure has no" in world.log.read_text()[before:]


@pytest.mark.parametrize(
    "part",
    [
        {"multiInstanceSettings": {"numberOfInstances": 2, "coordinationCommandLine": "true"}},
        {"containerSettings": {"imageName": "ubuntu"}},
        {"applicationPackageReferences": [{"applicationId": "a"}]},
        {"authenticationTokenSettings": {"access": ["job"]}},
    ],
    ids=lambda part: next(iter(part)),
)
def test_part_of_a_task_that_is_not_imitated_is_a_logged_501(world: World, part: dict[str, Any]) -> None:
    job = world.batch.job("nowhere")
    before = world.log.stat().st_size
    body = {"id": "t", "commandLine": "true", **part}
    assert sent(world.batch, "POST", f"/jobs/{job}/tasks", body) == Answer(501, "NotImplemented")
    assert f"local_azure has no {next(iter(part))}" in world.log.read_text()[before:]
