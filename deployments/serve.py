"""`make serve`: a Prefect server, the deployments of prefect.yaml, and a worker for them, until Ctrl-C.

They work on the environment that is named with --environment or SPATIOBATCH_ENVIRONMENT, else on a local_azure of
their own.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # Python puts this file's folder on the path, not the checkout's root

import typer  # noqa: E402  # after the path

from flows.children import child  # noqa: E402
from flows.console import environment_named, err, guarded  # noqa: E402
from flows.prefect_server import server  # noqa: E402
from spatiobatch.errors import SpatiobatchError  # noqa: E402

_POOL = "spatiobatch"
_WORKER = [sys.executable, "-m", "prefect", "worker", "start", "--pool", _POOL, "--type", "process"]
_SERVER = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The server's own defaults lose the rows of task runs that end within a second of each other.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}


class ServingError(SpatiobatchError):
    """Something that is served did not start, or ended by itself."""


def serve(
    environment: Annotated[Path | None, typer.Option(help="TOML file of the environment to work on.")] = None,
    port: Annotated[int, typer.Option(help="Port of Prefect's server and UI.")] = 4200,
) -> None:
    """Serve Prefect with this checkout's deployments until Ctrl-C."""
    root = f"http://127.0.0.1:{port}"
    with environment_named(environment, ROOT):
        os.environ |= _SERVER | {
            "PREFECT_API_URL": f"{root}/api",
            "PREFECT_SERVER_UI_API_URL": f"{root}/api",  # the UI would ask port 4200
            "PWD": str(ROOT),  # prefect.yaml has the worker work here
        }
        with server(port) as (_, prefect):
            _run("-m", "prefect", "work-pool", "create", _POOL, "--type", "process", "--overwrite")
            _run("-m", "prefect", "--no-prompt", "deploy", "--all")
            _run("deployments/automate.py")
            with child(_WORKER, ROOT, output=subprocess.DEVNULL) as worker:
                err.print(
                    f"Prefect is at {root}. Run provision/provision first, then the harvests. Ctrl-C ends all of it."
                )
                while prefect.poll() is None and worker.poll() is None:
                    time.sleep(0.2)
    raise ServingError("Prefect's server or worker ended by itself: what it said is above.")


def _run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise ServingError(f"python {' '.join(arguments)} failed:", (done.stderr or done.stdout).strip()[-500:])


if __name__ == "__main__":
    cli = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    cli.command()(serve)
    sys.exit(guarded(lambda: cli(standalone_mode=False), ROOT / ".spatiobatch"))
