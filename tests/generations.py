"""The generations of pgstac that the local GeoCatalog is held against: the one behind the service, and the newest.

A pytest plugin (`conftest.py` loads it); whatever asks for `generation` is run for each, unless a mark names one.
"""

import pytest

from benchmarks.pgstac import ANCESTOR, NEWEST, Generation, missing

of_the_service = pytest.mark.parametrize("generation", [ANCESTOR], indirect=True, ids=["0.8"])
"""For what the newest generation does in another way than the one behind the service."""
of_the_newest = pytest.mark.parametrize("generation", [NEWEST], indirect=True, ids=["0.10"])
"""For what the older one answers with status 500, and the service itself does not; and for what takes long."""


@pytest.fixture(scope="module", params=[ANCESTOR, NEWEST], ids=["0.8", "0.10"])
def generation(request: pytest.FixtureRequest) -> Generation:
    """One that can run here."""
    asked: Generation = request.param
    if reason := missing(asked):
        pytest.skip(reason)
    return asked
