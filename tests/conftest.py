"""What all tests share."""

import os
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def _one_thread_for_each_worker() -> Iterator[None]:
    """Workers side by side would wait for each other's BLAS threads, as would the processes they start."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    with threadpool_limits(limits=1):
        yield
