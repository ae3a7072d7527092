"""The cases of the fault matrix leave no pair out, and are no more than they may be."""

from math import prod

import test_fault_matrix_harvesting as harvesting
import test_fault_matrix_nodes as nodes
import test_fault_matrix_provisioning as provisioning
import test_fault_matrix_sign_in as sign_in
from fault_cases import KINDS, MOST, SPELLS, pairs, spells
from fault_matrix import services

OPERATOR = provisioning.CASES + harvesting.CASES
STEPS = provisioning.STEPS | harvesting.STEPS


def test_every_step_meets_every_kind_of_fault() -> None:
    every = {(step, kind) for step in (*STEPS, *nodes.STEPS, *nodes.SLOW) for kind in KINDS}
    assert every - pairs(OPERATOR + nodes.CASES) == set()


def test_every_service_is_broken_in_every_way_once_in_a_burst_and_for_good() -> None:
    called = services(STEPS)
    ways = {(service, kind, spell) for service in ("arm", "batch", "blob") for kind in KINDS for spell in SPELLS}
    assert ways - spells(OPERATOR, called) == set()


def test_nodes_meet_every_service_broken_in_every_way_in_a_burst_and_for_good() -> None:
    ways = {
        (service, kind, spell)
        for service in ("identity", "geocatalog", "blob")
        for kind in KINDS
        for spell in ("burst", "lasting")
    }
    assert ways - spells(nodes.CASES, nodes.SERVICES) == set()


def test_there_are_as_many_cases_as_may_be() -> None:
    names = [str(case) for case in OPERATOR + nodes.CASES]
    tests = [test for name, test in vars(sign_in).items() if name.startswith("test_")]
    signing_in = sum(prod(len(mark.args[1]) for mark in getattr(test, "pytestmark", ())) for test in tests)
    assert len(set(names)) == len(names)
    assert len(names) + signing_in <= MOST
