"""Who runs jobs: threads of this process, each watching a process, or the workers of a Dask cluster."""

import queue
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from joblib import Parallel, delayed

from ..result_json import tool
from .job import Job, Parcel, pack
from .outcome import Outcome, Status
from .run_job import run_job

_LOOK_EVERY = 0.2
_CONNECT_TIME = 10.0

_stopped_batches: set[str] = set()


class ClusterError(RuntimeError):
    """A cluster cannot be used, or is gone; the text says what to do."""


def on_this_machine(jobs: Iterable[Job], count: int, stopped: Callable[[], bool]) -> Iterator[Outcome]:
    """Outcomes as jobs finish, `count` of them running at a time; what has not begun when `stopped` has none.

    The work is done in processes of its own, so threads suffice to watch.
    """
    watching = Parallel(n_jobs=count, backend="threading", return_as="generator_unordered")
    for outcome in watching(delayed(_packed_and_run)(job, stopped) for job in jobs):
        if outcome is not None:
            yield outcome


def _packed_and_run(job: Job, stopped: Callable[[], bool]) -> Outcome | None:
    return None if stopped() else run_job(pack(job), stopped)


def on_cluster(
    jobs: Iterable[Job], address: str, stopped: Callable[[], bool], say: Callable[[str], None]
) -> Iterator[Outcome]:
    """The same on the workers of the Dask scheduler at `address`.

    A job whose worker dies is begun again on another, as often as the scheduler allows (`allowed-failures`), and is
    then recorded as died. Workers may come and go. Files travel with the job: no file system need be shared.

    **Raises:** `ClusterError`.
    """
    try:
        import dask
        import distributed
    except ImportError:
        raise ClusterError("--scheduler needs Dask: pip install 'netgain[dask]'.") from None
    # Models are what has to be sent.
    quietly = {"distributed.admin.large-graph-warning-threshold": "1 TB"}
    with dask.config.set(quietly):
        try:
            client = distributed.Client(address, set_as_default=False, timeout=_CONNECT_TIME)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise ClusterError(f"No Dask scheduler answers at {address}: {error}.") from None
        with client:
            yield from _Cluster(client, address, stopped, say).outcomes(iter(jobs))


class _Cluster:
    def __init__(self, client: Any, address: str, stopped: Callable[[], bool], say: Callable[[str], None]):
        self._client, self._address, self._stopped, self._say = client, address, stopped, say
        self._batch = uuid.uuid4().hex
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running: dict[Any, Job] = {}

    def outcomes(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        told = False
        while True:
            if self._stopped() and not told:
                told = True
                self._client.run(stop_batch, self._batch, on_error="ignore")
            if not told:
                self._submit(jobs)
            if not self._running:
                return
            try:
                future = self._ended.get(timeout=_LOOK_EVERY)
            except queue.Empty:
                if self._client.status != "running":
                    raise ClusterError(
                        f"The Dask scheduler at {self._address} is gone. Run the batch again to continue.") from None
                continue
            outcome = self._outcome(future)
            if outcome is not None:
                yield outcome

    def _submit(self, jobs: Iterator[Job]) -> None:
        """A job for each thread that is free: none waits behind another, and nobody need hold the models of all."""
        threads = sum(self._client.nthreads().values())
        if not threads:
            self._say("waiting for workers")
        for _ in range(max(threads, 1) - len(self._running)):
            job = next(jobs, None)
            if job is None:
                return
            key = f"{job.id}-{self._batch}"
            future = self._client.submit(run_on_worker, pack(job), self._batch, key=key, pure=False)
            self._running[future] = job
            future.add_done_callback(self._ended.put)

    def _outcome(self, future: Any) -> Outcome | None:
        import distributed

        job = self._running.pop(future)
        if future.status == "finished":
            outcome: Outcome | None = future.result()
            return outcome
        if future.status == "error":
            error = future.exception()
            if isinstance(error, distributed.KilledWorker):
                return Outcome(job=job, status=Status.DIED, reason=f"Workers died of it, one after the other: {error}")
            if isinstance(error, ImportError):
                raise ClusterError(f"A worker lacks what jobs need: {error}.")
            raise error
        raise ClusterError(f"The Dask scheduler at {self._address} dropped a job. Run the batch again to continue.")


def run_on_worker(parcel: Parcel, batch: str) -> Outcome | None:
    """What a worker does; it also stops where nobody waits for the outcome, as after the death of the batch.

    **Raises:** `ClusterError`, here and where the batch is, if their versions differ.
    """
    import distributed

    worker = distributed.get_worker()
    key = worker.get_current_task()
    if tool()["version"] != parcel.job.version:
        raise ClusterError(f"The worker at {worker.address} has netgain {tool()['version']}, the batch "
                           f"{parcel.job.version}: both must be the same.")

    def stopped() -> bool:
        task = worker.state.tasks.get(key)
        return batch in _stopped_batches or task is None or task.state != "executing"

    return run_job(parcel, stopped)


def stop_batch(batch: str) -> None:
    """Interrupts the jobs of a batch on this worker, and keeps others of it from beginning."""
    _stopped_batches.add(batch)
