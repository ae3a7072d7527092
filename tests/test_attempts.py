"""A step that a run does not depend on may fail, but it swallows nothing that ends the run."""

import pytest
from prefect import flow, task

from flows.console import Terminated
from tasks.clients import attempted

pytestmark = pytest.mark.usefixtures("prefect_server")


@task
def step(error: BaseException | None) -> int:
    if error:
        raise error
    return 42


def test_a_step_that_fails_is_a_state() -> None:
    state = flow(lambda: attempted(step, ValueError("no luck")).is_failed(), name="fails")()
    assert state is True


def test_a_step_that_succeeds_has_its_result() -> None:
    assert flow(lambda: attempted(step, None).result(), name="succeeds")() == 42


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated()], ids=["Ctrl-C", "SIGTERM"])
def test_what_ends_a_run_in_the_middle_of_a_step_ends_it(error: BaseException) -> None:
    with pytest.raises(type(error)):
        flow(lambda: attempted(step, error), name="ended")()
