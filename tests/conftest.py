"""What all tests share."""

import os
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def _surroundings() -> Iterator[None]:
    """Output as wide as in a pipe, whatever the terminal; one thread for linear algebra in each of several workers.

    Workers side by side would wait for each other's threads, as would the processes they start.
    """
    os.environ.pop("COLUMNS", None)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    with threadpool_limits(limits=1):
        yield
