"""How a harvest fails: with the reason, and with nothing half-written."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogs import collection
from flow_runs import Site, running_site
from operators import application, grant
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from spatiobatch.errors import NotProvisionedError, NotStacError, ServiceError, TaskFailedError, UnknownCollectionError
from spatiobatch.query import Query, Runtime
from spatiobatch.text import in_markdown
from tasks.collections import parse_collections

KILLED, DOOMED = Query(collections=("killed",)), Query(collections=("doomed",))
PREEMPTED, UPLOAD = Query(collections=("gone",)), Query(collections=("mute",))
"""Harvests with hashes of their own, which faults are aimed at."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """An environment whose nodes fail some harvests, and whose catalog refuses everybody once the probe is over."""
    faults = (
        f"service=node,path={KILLED.hash}.*/collections$,action=kill,delay=0",
        f"service=node,path={DOOMED.hash}.*/collections,action=kill,delay=0,times=inf",
        f"service=node,path={PREEMPTED.hash}.*/collections$,action=preempt,delay=0,times=1",
        f"service=blob,method=PUT,path=/results/harvests/.*{UPLOAD.hash}/logs/,status=403,times=inf",
        "service=geocatalog,path=/stac/collections,after=1,times=inf,status=403",
    )
    flags = [word for fault in faults for word in ("--fault", fault)]
    folder = tmp_path_factory.mktemp("site")
    with running_site(folder, "--clock", "instant", *flags, resource_group="failures") as site:
        site.provision()
        yield site


@pytest.mark.parametrize(
    ("runtime", "script"), [(Runtime.python, "list_collections"), (Runtime.bash, "list_collections")]
)
def test_failed_task_raises_with_exit_code_node_and_stderr(built: Site, runtime: Runtime, script: str) -> None:
    with pytest.raises(TaskFailedError, match=r"exit code 4 on node tvmps_\w+; its stderr ends:\n") as error:
        built.harvest(Query(), runtime)
    assert "GeoCatalog Reader" in str(error.value)
    assert script in str(error.value)


def test_failed_run_leaves_a_page_with_the_sentence_and_what_the_node_said(built: Site) -> None:
    with pytest.raises(TaskFailedError) as error:
        built.harvest()
    with get_client(sync_client=True) as client:
        (page, *_) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["harvest-failure"])),
            sort=ArtifactSort.CREATED_DESC,
        )
    broke, said = in_markdown(error.value.sentence), error.value.lines
    assert page.data == f"# harvest collections failed\n\n{broke}\n\n```text\n{said}\n```"


def test_job_is_deleted_also_when_the_task_failed(built: Site) -> None:
    with pytest.raises(TaskFailedError) as error:
        built.harvest()
    assert any(write.startswith("DELETE") and error.value.job in write for write in built.writes())


def test_failed_harvest_leaves_no_output(built: Site, tmp_path: Path) -> None:
    with pytest.raises(TaskFailedError):
        built.harvest(output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert not [write for write in built.writes() if "manifest.json" in write or "/collections.json" in write]


def test_killed_task_runs_again_as_another(built: Site) -> None:
    with pytest.raises(TaskFailedError, match=r"Task collections-2 .* exit code 4"):
        built.harvest(KILLED)


def test_process_that_is_always_killed_is_told_with_its_exit_code(built: Site) -> None:
    advice = r"ran out of memory: set fewer pool_task_slots \(4 now\) or a larger pool_vm_size \(Standard_\w+ now\), .*"
    with pytest.raises(TaskFailedError, match=rf"-3 .* exit code 137 on node \w+; .*{advice}; its stderr is empty"):
        built.harvest(DOOMED)


def test_task_of_a_lost_node_runs_again_on_the_next_one(built: Site) -> None:
    with pytest.raises(TaskFailedError, match="exit code 4"):
        built.harvest(PREEMPTED)


def test_logs_that_cannot_be_uploaded_are_read_from_the_node(built: Site) -> None:
    with pytest.raises(TaskFailedError, match=r"FileUploadAccessDenied.*\n?.*its stderr ends:\n.*GeoCatalog Reader"):
        built.harvest(UPLOAD)


def test_harvest_names_the_command_where_nothing_is_provisioned(built: Site) -> None:
    with pytest.raises(NotProvisionedError, match=r"no Batch account .* in bare\. .*python flows/run\.py provision$"):
        built.with_(resource_group="bare").harvest()


def test_operator_without_a_role_is_refused_with_the_action_that_he_lacks(built: Site) -> None:
    nobody = application(built, "nobody")
    with pytest.raises(ServiceError, match=r"403 AuthorizationFailed.*Microsoft\.Batch/batchAccounts/read"):
        built.as_(**nobody.variables).harvest()


def test_operator_without_a_blob_role_is_refused_before_a_job_is_made(built: Site) -> None:
    operator = application(built, "blobless")
    grant(built, operator, "Azure Batch Data Contributor", "batchAccounts")
    before = built.now
    with pytest.raises(ServiceError, match=r"403 .* You need the role Storage Blob Data Contributor"):
        built.as_(**operator.variables).harvest()
    assert not [write for write in built.writes(before) if "/jobs" in write]


@pytest.mark.parametrize(
    ("stdout", "problem"),
    [
        (b"", "no JSON"),
        (b"<html>", "no JSON"),
        (b"[]", "valid dictionary"),
        (b"{}", "collections: Field required"),
        (b'{"collections": null}', "collections: Input should be a valid list"),
        (b'{"collections": [1]}', "collections.0"),
        (b'{"other": [], "collections": [{}]}', "does not begin with its collections"),
    ],
)
def test_answer_that_is_no_list_of_stac_collections_is_refused(stdout: bytes, problem: str) -> None:
    with pytest.raises(NotStacError, match="is not a list of STAC collections") as error:
        parse_collections.fn(stdout, Query())
    assert problem in str(error.value)


GOOD = json.dumps(collection(1, id="good"))


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        ("{}", "(number 2, without an id)", "id: Field required"),
        (json.dumps(collection(1, id=7)), "(number 2, without an id)", "id: Input should be a valid string"),
        (json.dumps(collection(1, id="")), "(number 2, without an id)", "id: "),
        (json.dumps(collection(1, id="old", type="Catalog")), "old", "type: Input should be 'Collection'"),
        ('{"type": "Collection", "id": "old"}', "old", "stac_version: Field required"),
        (json.dumps(collection(1, id="odd", x=float("nan"))), "odd", "it holds NaN"),
        (json.dumps(collection(1, id="odd", x=float("-inf"))), "odd", "it holds -Infinity"),
        ('{"id": "odd", "x": "two\nlines"}', "odd", "Invalid control character"),
        ('{"id": "odd", "x": "\udcff"}', "odd", "'utf-8' codec can't encode"),
        (json.dumps(collection(1, id="\ud800")), r"\ud800", "id: "),
    ],
)
def test_a_collection_that_cannot_be_read_costs_no_other(text: str, name: str, problem: str) -> None:
    stdout = f'{{"collections": [{GOOD},\n{text}]}}\n'.encode(errors="surrogateescape")
    found = parse_collections.fn(stdout, Query())
    assert [one["id"] for one in found.collections] == ["good"]
    assert list(found.unreadable) == [name]
    assert problem in found.unreadable[name]
    assert json.loads(found.document) == {"collections": [json.loads(GOOD)]}
    assert parse_collections.fn(stdout, Query(collections=("good",))).unreadable == {}


@pytest.mark.parametrize(
    "value",
    ["1E400", "-1e999", "12345678901234567890123", "1.10", "-0.0", "9" * 5000, r'"\ud800"', r'"\u65e5"', '"日本"'],
)
def test_values_of_a_collection_are_kept_as_they_came(value: str) -> None:
    text = f'{{"type":"Collection", "id":"a","stac_version":"1.0.0","x":{value},"x":[{value}]}}'
    found = parse_collections.fn(f'{{"collections": [{text}]}}'.encode(), Query())
    assert found.unreadable == {}
    assert text.encode() in found.document
    assert json.loads(found.document, parse_int=str, parse_float=str)["collections"][0]["id"] == "a"


def test_a_collection_that_cannot_be_read_is_known_by_its_name() -> None:
    stdout = f'{{"collections": [{GOOD}, {{"id": "old"}}]}}'.encode()
    found = parse_collections.fn(stdout, Query(collections=("old",)))
    assert (found.collections, list(found.unreadable)) == ([], ["old"])
    with pytest.raises(UnknownCollectionError, match="it has good, old"):
        parse_collections.fn(stdout, Query(collections=("none",)))
