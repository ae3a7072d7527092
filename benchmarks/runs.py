"""What a whole `python flows/run.py` takes, and how much of that is Prefect's own start.

Runs in a checkout of links with a Prefect home and a `local_azure` of its own, so that nobody's state is touched.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.results import Result
from benchmarks.stand_in import variables
from spatiobatch.errors import HarvestError

ROOT = Path(__file__).parent.parent
_ROOMS = ("flows", "tasks", "spatiobatch", "task_scripts", "deployments")
_TRIVIAL = """\
from prefect import flow, task

@task
def answer():
    return 42

@flow
def trivial():
    print("Environment: none")
    return answer()

trivial()
"""


def measure(folder: Path) -> list[Result]:
    """The first and the second run, each beside a flow that does nothing; the second provisioning beside the first."""
    for room in _ROOMS:
        (folder / room).symlink_to(ROOT / room)
    (folder / "trivial.py").write_text(_TRIVIAL)
    trivial_cold, _ = _timed(folder, "trivial.py", folder / "prefect-trivial")
    trivial_warm, _ = _timed(folder, "trivial.py", folder / "prefect-trivial")
    cold, first_provision = _timed(folder, "flows/run.py", folder / "prefect")
    warm, second_provision = _timed(folder, "flows/run.py", folder / "prefect")
    return [
        Result("first flows/run.py", cold, "trivial flow, first", trivial_cold, "s"),
        Result("second flows/run.py", warm, "trivial flow, second", trivial_warm, "s"),
        Result("second provision, with start", second_provision, "first provision", first_provision, "s"),
    ]


def _timed(folder: Path, script: str, prefect_home: Path) -> tuple[float, float]:
    """Seconds that a script takes, and seconds until it says which environment it has.

    Raises:
        HarvestError: it fails.
    """
    begun = time.monotonic()
    provisioned = 0.0
    with variables({"PREFECT_HOME": str(prefect_home), "PYTHONUNBUFFERED": "1"}, clean=True):
        environment = dict(os.environ)
    with (
        (folder / "stderr.txt").open("wb") as stderr,
        subprocess.Popen(  # noqa: S603  # our own command
            [sys.executable, script], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        for line in process.stdout or ():
            if line.startswith("Environment"):
                provisioned = time.monotonic() - begun
    if process.returncode:
        said = (folder / "stderr.txt").read_text(errors="replace").strip().splitlines()
        raise HarvestError(f"{script} failed with {process.returncode}: {said[-1] if said else 'it said nothing'}")
    return time.monotonic() - begun, provisioned
