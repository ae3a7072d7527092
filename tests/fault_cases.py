"""Which faults are tried in which step: few cases, in which a step meets every kind, and a service every spell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from spatiobatch.names import digest

ANSWERS = ("500", "502", "503", "504")
KINDS = ("429", "5xx", "drop", "hang", "truncate")
"""What a request meets; `5xx` is one status after the other."""
LOST = "lost"
"""A kind for steps that write: what was asked for is done, and the answer is cut short or never comes."""
SPELLS = ("once", "burst", "lasting")
"""Kinds once each, one after the other; three of a kind in a row; one kind for longer than a step has patience."""
MOST = 200


@dataclass(frozen=True)
class Case:
    """One spell of faults in one step."""

    step: str
    spell: str
    kinds: tuple[str, ...]
    row: int = 0
    """Of its service's steps; statuses differ from row to row."""

    @property
    def name(self) -> str:
        """What the resources of this case are called; anything in Azure may be called so."""
        return f"f{digest(str(self), 14)}"

    def faults(self, lasting: int) -> list[tuple[str, int]]:
        """What strikes, one after the other, and how often each; a spell that lasts strikes so often."""
        number = {"once": 1, "burst": 3, "lasting": lasting}[self.spell]
        words = [self._word(kind, time) for kind in self.kinds for time in range(number)]
        return [(word, len(list(same))) for word, same in groupby(words)]

    def _word(self, kind: str, time: int) -> str:
        if kind != "5xx":
            return "truncate" if kind == LOST else kind
        return ANSWERS[(self.row + (time if self.spell == "burst" else 0)) % len(ANSWERS)]

    def __str__(self) -> str:
        """For the test's name."""
        return f"{self.step}-{'+'.join(self.kinds)}-{self.spell}"


def drawn(services: Mapping[str, str], rows: int = 0) -> list[Case]:
    """Three cases for each step, by the service that it calls: one kind lasts, one comes in a burst, the others once.

    Which ones goes round among the steps of a service, so that from five of them on it meets each kind in each way;
    with `rows` of at least five, fewer steps take turns until it has.
    """
    made = []
    for service in dict.fromkeys(services.values()):
        steps = [step for step, its in services.items() if its == service]
        for row in range(max(rows, len(steps))):
            step, turn = steps[row % len(steps)], row % len(KINDS)
            lasting, burst, *others = KINDS[turn:] + KINDS[:turn]
            made += [Case(step, "lasting", (lasting,), row), Case(step, "burst", (burst,), row)]
            if row < len(steps):
                made.append(Case(step, "once", tuple(others), row))
    return made


def losing(writes: Iterable[str]) -> list[Case]:
    """A case for each writing step in which the answer to its write gets lost; how often makes no difference.

    Who asks again finds done what was asked for.
    """
    return [Case(step, "once", (LOST,)) for step in writes]


def pairs(cases: Iterable[Case]) -> set[tuple[str, str]]:
    """Which steps meet which kinds."""
    return {(case.step, kind) for case in cases for kind in case.kinds}


def spells(cases: Iterable[Case], services: Mapping[str, str]) -> set[tuple[str, str, str]]:
    """Which services meet which kinds how often."""
    return {(services[case.step], kind, case.spell) for case in cases if case.step in services for kind in case.kinds}
