"""A full disk is named with its folder, before anything is started where that can be known then."""

import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient
from flow_runs import Site, running_site
from test_command_line import checkout, run

from flows.console import guarded
from spatiobatch.errors import OutputError, ServiceError
from tasks.archive import download
from tasks.environment import Environment

__all__ = ["checkout"]
FULL = os.strerror(errno.ENOSPC)
KILOBYTES = 16 * 1024


class Disk:
    """A file system of 16 MB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no room."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017  # it always comes

    def free(self) -> None:
        """Leave room again."""
        self._ballast.unlink()


@pytest.fixture
def mounted() -> Iterator[Callable[[Path], Disk]]:
    """Mounts a small disk at a folder; only who may mount can test what this is about."""
    folders: list[Path] = []

    def mount(folder: Path) -> Disk:
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={KILOBYTES}k", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no file system can be mounted: {error}")
        folders.append(folder)
        return Disk(folder)

    yield mount
    for folder in folders:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("prefect", "Cannot write to {folder}: {full}. Free some space there, then run again."),
        (".spatiobatch", "Cannot write to {folder}: {full}. Free some space there, then run again."),
        (
            "out",
            "Cannot write the output to {folder}: {full}. Free some space there, or name another folder with --output.",
        ),
    ],
)
def test_a_disk_that_is_full_is_named_at_once(
    name: str, sentence: str, checkout: Path, mounted: Callable[[Path], Disk]
) -> None:
    disk = mounted(checkout / name)
    disk.fill()
    code, out, err = run(checkout, "harvest", "--output", str(checkout / "out"))
    assert (code, out, err) == (1, "", f"spatiobatch: {sentence.format(folder=disk.folder, full=FULL)}\n")


def test_a_disk_that_fills_up_is_named_beside_what_failed(
    mounted: Callable[[Path], Disk], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    disk = mounted(tmp_path / "home")

    def fail(error: Exception) -> None:
        disk.fill()
        raise error

    for error, sentence in (
        (ServiceError("Azure answered."), r"Azure answered\."),
        (KeyError("key"), rf"this is a fault .*; its traceback cannot be kept in .*/fault\.txt \({FULL}\)\."),
    ):
        assert guarded(lambda error=error: fail(error), disk.folder) == 1
        err = capfd.readouterr().err
        assert re.fullmatch(rf"spatiobatch: {sentence} The disk of {disk.folder} is full, which may be why: .*\n", err)


@pytest.fixture
def small(tmp_path: Path, mounted: Callable[[Path], Disk], prefect_server: None) -> Iterator[tuple[Site, Disk]]:
    """A stand-in whose state is on a small disk."""
    disk = mounted(tmp_path / "state")
    with running_site(tmp_path, "--clock", "instant") as site:
        yield site, disk


def test_local_azure_whose_disk_is_full_says_so_and_goes_on_when_it_is_not(small: tuple[Site, Disk]) -> None:
    site, disk = small
    groups = site.azure.resources.resource_groups
    tags = {f"tag{number}": "x" * 200 for number in range(40)}
    disk.fill()
    with pytest.raises(HttpResponseError, match="The disk of local_azure's state is full") as refused:
        groups.create_or_update("small", {"location": "westeurope", "tags": tags})
    assert refused.value.status_code == 507
    assert not groups.check_existence("small")
    disk.free()
    groups.create_or_update("small", {"location": "westeurope", "tags": tags})
    assert groups.check_existence("small")


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site"), "--clock", "instant") as site:
        site.provision()
        yield site


def test_an_output_that_fills_up_leaves_no_part_of_a_file_and_says_what_is_kept(
    provisioned: Site,
    environment: Environment,
    results: ContainerClient,
    mounted: Callable[[Path], Disk],
    tmp_path: Path,
) -> None:
    disk = mounted(tmp_path / "out")
    for name in ("manifest.json", "parquet/c/2020-01.parquet"):
        results.upload_blob(f"harvests/h/{name}", bytes(KILOBYTES * 600))
    with pytest.raises(OutputError, match=rf"{FULL}\. Free some space .* Harvest h is kept, and the next run"):
        download.fn(provisioned.azure, environment, "h", [], disk.folder)
    assert [file.name for file in disk.folder.rglob("*") if file.is_file()] == ["2020-01.parquet"]  # it fits
