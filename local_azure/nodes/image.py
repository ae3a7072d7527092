"""What is first on the nodes' PATH: the part of a VM image that start tasks and tasks lean on.

Difference from Azure: nothing is installed. `python3` is the stand-in's own Python with its packages,
`apt-get`, `apt`, `pip` and `sudo` only record how they were called, `python3 -m venv` makes a folder
whose programs are those of the image, and `az` is there if whoever started the stand-in has it on the PATH.
"""

import shlex
import shutil
import sys
from pathlib import Path

_RECORD = """#!/bin/sh
echo "{name} $*" >> {log}
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
    "sudo": _RECORD,
    "apt": _RECORD,
    "apt-get": _RECORD,
    "pip": _RECORD,
    "pip3": _RECORD,
}


def build(folder: Path) -> Path:
    """Write the image's programs below `folder`; they append their calls to `folder/calls.log`.

    Returns:
        The folder to put on the PATH.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    values = {
        "log": shlex.quote(str(folder / "calls.log")),
        "programs": shlex.quote(str(programs)),
        "python": shlex.quote(sys.executable),
    }
    templates = dict(_TEMPLATES)
    if az := shutil.which("az"):
        templates["az"], values["az"] = _AZ, shlex.quote(az)
    for name, template in templates.items():
        program = programs / name
        program.write_text(template.format(name=name, **values))
        program.chmod(0o755)
    return programs
