"""Which calls of a pass two clouds answered differently, and which of the differences our code would notice."""

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.observation import OPERATION, Call
from benchmarks.shapes import Difference, Kind, Shape, differences, merged
from spatiobatch.errors import SpatiobatchError

TASKS = Path(__file__).parent.parent / "tasks"
"""Our code that reads Azure's answers."""

_PASSING = {403, 408, 429, 500, 502, 503, 504}
"""Throttling, outages, and roles that are still spreading: part of every pass or of none."""
_GOING_ON = {202}


class DisagreementError(SpatiobatchError):
    """The stand-in answers as Azure does not."""

    def __init__(self, disagreements: int, calls: int, records: Path) -> None:
        super().__init__(
            f"local_azure differs from the real side in {disagreements} points over {calls} kinds of calls; "
            f"what both answered is in {records}."
        )


@dataclass(frozen=True)
class Finding:
    """Something that is not the same on both sides."""

    call: str
    what: str
    disagrees: bool
    """False for what is told but does no harm."""


def compare(real: Sequence[Call], local: Sequence[Call], read: frozenset[str]) -> list[Finding]:
    """What differs, call by call, in the order in which the calls were first made.

    Args:
        real: the calls of the pass on Azure.
        local: the calls of the same pass on `local_azure`.
        read: names of the fields that our code reads; a missing one of those is a disagreement, any other is told.
    """
    ours, theirs = _by_title(real), _by_title(local)
    findings: list[Finding] = []
    for title in dict.fromkeys([*ours, *theirs]):
        if title not in theirs:
            # How often an operation is asked for, and whether at all, is the service's choice.
            findings.append(Finding(title, "only on the real side", disagrees=OPERATION not in title))
        elif title not in ours:
            findings.append(Finding(title, "only on local_azure's side", disagrees=False))
        else:
            findings += _statuses(title, ours[title], theirs[title])
            findings += _bodies(title, ours[title], theirs[title], read)
    return findings


def fields_read(folder: Path = TASKS) -> frozenset[str]:
    """Names of the JSON fields that the Python files of a folder read: attributes of SDK models, and keys of documents.

    In lower case and without underscores, since `public_ip_address` is `publicIPAddress` on the wire.
    """
    names: set[str] = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute):
                names.add(node.attr.replace("_", "").lower())
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                names.add(str(node.slice.value).lower())
    return frozenset(names)


def _by_title(calls: Iterable[Call]) -> dict[str, list[Call]]:
    groups: dict[str, list[Call]] = {}
    for call in calls:
        groups.setdefault(call.title, []).append(call)
    return groups


def _statuses(title: str, real: list[Call], local: list[Call]) -> list[Finding]:
    seen, answered = {call.status for call in real}, {call.status for call in local}
    unsettled = _PASSING | _GOING_ON if OPERATION in title else _PASSING
    if seen == answered:
        return []
    return [
        Finding(
            title, f"answered {_listed(seen)}, local_azure {_listed(answered)}", bool((seen ^ answered) - unsettled)
        )
    ]


def _listed(statuses: set[int]) -> str:
    return " and ".join(str(status) for status in sorted(statuses))


def _bodies(title: str, real: list[Call], local: list[Call], read: frozenset[str]) -> list[Finding]:
    findings: list[Finding] = []
    for status in sorted({call.status for call in real} & {call.status for call in local}):
        shapes, others = _shapes(real, status), _shapes(local, status)
        if bool(shapes) != bool(others):
            side = "the real side" if shapes else "local_azure's side"
            findings.append(Finding(title, f"{status}: JSON on {side} only", disagrees=OPERATION not in title))
            continue
        for difference in differences(merged(shapes), merged(others)):
            what = f"{status}: {difference.path} {difference.kind}: {difference.detail}"
            findings.append(Finding(title, what, _matters(difference, read)))
    return findings


def _shapes(calls: list[Call], status: int) -> list[Shape]:
    return [call.response for call in calls if call.status == status and call.response is not None]


def _matters(difference: Difference, read: frozenset[str]) -> bool:
    if difference.kind in (Kind.other_type, Kind.letter_case):
        return True
    return difference.always and difference.path.rpartition("/")[2].lower() in read
