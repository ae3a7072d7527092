"""What is first on the nodes' PATH: the part of a VM image that start tasks and tasks lean on.

A task whose user is no administrator is refused by `sudo`, `apt` and `apt-get`, as on Azure
(https://learn.microsoft.com/azure/batch/batch-user-accounts).

Difference from Azure: nothing is installed. `python3` is the stand-in's own Python with its packages,
`apt-get`, `apt`, `pip` and `sudo` only record how they were called, `python3 -m venv` makes a folder
whose programs are those of the image, and `az` is there if whoever started the stand-in has it on the PATH.
Whoever is elevated is so to these programs alone: the process runs as the user of the stand-in.
"""

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_RECORD = """#!/bin/sh
echo "{name} $*" >> {log}
"""

_NO_SUDO = """#!/bin/sh
echo "sudo: a password is required" >&2
exit 1
"""

_NO_LOCK = """#!/bin/sh
echo "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)" >&2
exit 100
"""

_PYTHON = """#!/bin/sh
case "$1 $2" in
"-m pip")
    echo "{name} $*" >> {log}
    exit 0 ;;
"-m venv")
    echo "{name} $*" >> {log}
    for folder in "$@"; do :; done
    mkdir -p "$folder/bin" && ln -sf {programs}/python {programs}/python3 {programs}/pip {programs}/pip3 "$folder/bin/"
    exit ;;
esac
exec {python} "$@"
"""

_AZ = """#!/bin/sh
exec {az} "$@"
"""

_TEMPLATES = {
    "python": _PYTHON,
    "python3": _PYTHON,
    "sudo": _NO_SUDO,
    "apt": _NO_LOCK,
    "apt-get": _NO_LOCK,
    "pip": _RECORD,
    "pip3": _RECORD,
}
_ELEVATED_TEMPLATES = {"sudo": _RECORD, "apt": _RECORD, "apt-get": _RECORD}


class Image(NamedTuple):
    """Folders with programs."""

    programs: Path
    elevated: Path
    """What administrators find before them."""

    def path(self, *, elevated: bool) -> str:
        """The first part of a task's PATH."""
        return f"{self.elevated}:{self.programs}" if elevated else str(self.programs)


def build(folder: Path) -> Image:
    """Write the image's programs below `folder`; they append their calls to `folder/calls.log`."""
    image = Image(folder / "bin", folder / "elevated")
    values = {
        "log": shlex.quote(str(folder / "calls.log")),
        "programs": shlex.quote(str(image.programs)),
        "python": shlex.quote(sys.executable),
    }
    templates = dict(_TEMPLATES)
    if az := shutil.which("az"):
        templates["az"], values["az"] = _AZ, shlex.quote(az)
    _write(image.programs, templates, values)
    _write(image.elevated, _ELEVATED_TEMPLATES, values)
    return image


def _write(folder: Path, templates: Mapping[str, str], values: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, template in templates.items():
        program = folder / name
        program.write_text(template.format(name=name, **values))
        program.chmod(0o755)
