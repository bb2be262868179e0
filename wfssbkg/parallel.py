"""Workers on this machine."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from wfssbkg import StepError, cli
from wfssbkg.config import Compute

tqdm.monitor_interval = 0  # no thread of its own: processes are forked beside its bars

_kept: dict[str, Any] = {}  # the worker processes, and how many they are

# Below this a worker that has loaded the JWST pipeline or a band of exposures cannot do its work.
LEAST_WORKER_GB = 0.5


def worker_count(compute: Compute, *, need_gb: float = LEAST_WORKER_GB, jobs: int = 0) -> int:
    """
    How many processes to use.

    Parameters
    ----------
    compute : `~wfssbkg.config.Compute`
    need_gb : float
        What one of them needs, in GB.
    jobs : int
        How many jobs there are; 0 if that is no limit.

    Returns
    -------
    int
        At least 1, at most what the memory holds.
    """
    wanted = compute.workers or available_cores()
    count = min(wanted, int(compute.memory_gb / need_gb))
    return max(1, min(count, jobs) if jobs else count)


def available_cores() -> int:
    """The number of cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def run(
    function: Callable[..., Any],
    jobs: Sequence[tuple],
    *,
    workers: int,
    description: str,
    unit: str = "exposure",
) -> Iterator[tuple[tuple, Any]]:
    """
    Call `function(*job)` for each job in worker processes, with a progress bar.

    Parameters
    ----------
    function : callable
        A function of a module, so that a worker can import it.
    jobs : sequence of tuples
    workers : int
        Number of processes; with 1 the work is done in this one.
    description, unit : str
        For the progress bar.

    Yields
    ------
    job : tuple
    outcome
        What the function returned, or the `StepError` it raised, in the order in which the jobs
        end. A job whose worker process is killed is tried again, and then ends with a `StepError`.
    """
    if not jobs:
        return
    bar = tqdm(total=len(jobs), desc="  " + description, unit=unit, smoothing=0.1)
    with bar:
        if workers == 1:
            for job in jobs:
                yield job, _outcome(function, job)
                bar.update()
            return
        for job, outcome in _in_processes(function, jobs, workers):
            yield job, outcome
            bar.update()


def _in_processes(
    function: Callable[..., Any], jobs: Sequence[tuple], workers: int
) -> Iterator[tuple[tuple, Any]]:
    """
    As `run`, in worker processes.

    When one dies (killed, mostly for want of memory), nobody knows of which job. Those that were
    under way are then done again one at a time: one that ends its process once more is to blame.
    """
    pending = list(jobs)
    while pending:
        lost = yield from _until_one_dies(function, pending, workers)
        under_way = 2 * workers + 1  # at the most: in the processes, and in the queue to them
        for job in lost[:under_way]:
            if (yield from _until_one_dies(function, [job], 1)):
                yield (
                    job,
                    StepError(
                        "its worker process was killed, mostly that is for want of memory: "
                        "see compute.workers and compute.memory_gb in the config"
                    ),
                )
        pending = lost[under_way:]


def _until_one_dies(
    function: Callable[..., Any], jobs: Sequence[tuple], workers: int
) -> Generator[tuple[tuple, Any], None, list[tuple]]:
    """As `run`; returns the jobs that were lost with a process that died, in their order."""
    lost = []
    with _pool(workers) as pool:
        futures = {pool.submit(_outcome, function, job): job for job in jobs}
        for future in as_completed(futures):
            if isinstance(future.exception(), BrokenProcessPool):
                lost.append(future)
            else:
                yield futures[future], future.result()
    if lost:
        _close_pool()
    return [job for future, job in futures.items() if future in lost]


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """The worker processes; kept for the next jobs, since they take a second to start.

    An exception in the block, Ctrl-C among them, ends them.
    """
    if _kept.get("workers") != workers:
        _close_pool()
        # A fork has all that is imported, which takes a new process a second. It must come before
        # any thread (the pool starts its processes with the first job); macOS has no safe fork.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
        _kept.update(workers=workers, pool=pool)
    try:
        yield _kept["pool"]
    except BaseException:
        _close_pool()
        raise


def _start_worker() -> None:
    """Make this worker process quiet, and end it with its parent, however that ends."""
    cli.quieten()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: without a traceback

    def end_with_parent() -> None:
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _close_pool() -> None:
    """End the worker processes; jobs that have not begun are dropped."""
    if "pool" in _kept:
        _kept["pool"].shutdown(wait=True, cancel_futures=True)
    _kept.clear()


def run_in_order(function: Callable[..., Any], jobs: Sequence[tuple], **options: Any) -> list[Any]:
    """
    As `run`, for jobs that must all succeed.

    Returns
    -------
    list
        The results, in the order of the jobs.

    Raises
    ------
    StepError
        If one of the jobs fails.
    """
    results = {}
    for job, outcome in run(function, jobs, **options):
        if isinstance(outcome, StepError):
            raise outcome
        results[id(job)] = outcome
    return [results[id(job)] for job in jobs]


def _outcome(function: Callable[..., Any], job: tuple) -> Any:
    """The function's result, or its error as a value, so that one bad exposure stops nothing."""
    try:
        return function(*job)
    except StepError as error:
        return error
