"""Workers on this machine, or on a Dask cluster."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

from wfssbkg import ClusterError, StepError, __version__, cli, progress
from wfssbkg.config import LOCAL, Compute

_kept: dict[str, Any] = {}  # the workers, and what was asked for when they were started

# Below this a worker that has loaded the JWST pipeline or a band of exposures cannot do its work.
LEAST_WORKER_GB = 0.5
CONNECT_TIMEOUT = 10  # s; for a scheduler on a busy login node
OF_THE_USER = ("CRDS_", "WFSSBKG_")  # environment variables that bear on the work begin so

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE = 2**30  # bytes; larger than any array of one exposure

_KILLED = (
    "its worker process was killed, mostly that is for want of memory: "
    "see compute.workers and compute.memory_gb in the config"
)


def capacity(compute: Compute, *, need_gb: float = LEAST_WORKER_GB) -> tuple[int, float]:
    """
    How many workers there are, and what they may take.

    Parameters
    ----------
    compute : `~wfssbkg.config.Compute`
    need_gb : float
        What a worker needs, in GB; on this machine there are no more than the memory holds.

    Returns
    -------
    workers : int
        At least 1.
    memory_gb : float
        For all of them together, GB.
    """
    if compute.scheduler != LOCAL:
        workers = _threads(_client(compute.scheduler))
        return workers, workers * compute.memory_gb
    wanted = compute.workers or available_cores()
    return max(1, min(wanted, int(compute.memory_gb / need_gb))), compute.memory_gb


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
    compute: Compute,
    need_gb: float = LEAST_WORKER_GB,
    description: str,
    unit: str = "exposure",
) -> Iterator[tuple[tuple, Any]]:
    """
    Call `function(*job)` for each job in parallel, with a progress bar.

    Parameters
    ----------
    function : callable
        A function of a module or of the script.
    jobs : sequence of tuples
    compute : `~wfssbkg.config.Compute`
        Where: in processes on this machine, or on the workers of a Dask scheduler. A single job,
        or a single process, is this one.
    need_gb : float
        As for `capacity`.
    description, unit : str
        For the progress bar.

    Yields
    ------
    job : tuple
    outcome
        What the function returned, or the `StepError` it raised, in the order in which the jobs
        end. A job whose worker is killed is done again, and so are the others that it had; one
        that ends its workers time and again gets a `StepError`.

    Raises
    ------
    ClusterError
        If the Dask scheduler cannot be reached.
    """
    if not jobs:
        return
    _keep_memory()  # also in the workers, which are forked
    workers, _ = capacity(compute, need_gb=need_gb)
    alone = compute.scheduler == LOCAL and min(workers, len(jobs)) == 1
    outcomes = (
        ((job, _outcome(function, job)) for job in jobs)
        if alone
        else _in_parallel(function, jobs, compute, workers)
    )
    with progress.bar(description, len(jobs), unit, least=min(workers, len(jobs))) as bar:
        for job, outcome in outcomes:
            yield job, outcome
            bar.update()


def begin(
    function: Callable[..., Any], *job: Any, compute: Compute, need_gb: float = LEAST_WORKER_GB
) -> Callable[[], Any]:
    """
    Start a job on this machine beside what this process does until it needs the result.

    Parameters
    ----------
    function : callable
        A function of a module.
    *job
        Its arguments.
    compute, need_gb
        As for `run`; with those of jobs before, it is done by one of their workers.

    Returns
    -------
    callable
        Waits for what the function returns, or raises its `StepError`. With a single worker, or
        those of a cluster, or if the worker is killed, it calls the function here and now.
    """
    workers, _ = capacity(compute, need_gb=need_gb)
    if compute.scheduler != LOCAL or workers == 1:
        return partial(function, *job)
    _keep_memory()
    with _workers(compute, workers) as pool:
        future = pool.submit(function, *job)

    def result() -> Any:
        try:
            return future.result()
        except (BrokenProcessPool, CancelledError):
            return function(*job)

    return result


def prepare(function: Callable[[], Any], *, compute: Compute, need_gb: float) -> None:
    """
    Start the workers on this machine, and let each call a function beside what this process does.

    Parameters
    ----------
    function : callable
        A function of a module that loads what the jobs to come need.
    compute, need_gb
        As for `run`.
    """
    workers, _ = capacity(compute, need_gb=need_gb)
    if compute.scheduler == LOCAL and workers > 1:
        for _ in range(workers):
            begin(function, compute=compute, need_gb=need_gb)


def _in_parallel(
    function: Callable[..., Any], jobs: Sequence[tuple], compute: Compute, workers: int
) -> Iterator[tuple[tuple, Any]]:
    """
    As `run`, by some workers.

    When a process of this machine dies (killed, mostly for want of memory), nobody knows of which
    job. Those that were under way are then done again one at a time: one that ends its process
    once more is to blame. Dask does that by itself.
    """
    waiting = deque(jobs)
    while waiting:
        lost = yield from _until_one_dies(function, waiting, compute, workers)
        for job in lost:
            if (yield from _until_one_dies(function, deque([job]), compute, 1)):
                yield job, StepError(_KILLED)


def _until_one_dies(
    function: Callable[..., Any], waiting: deque[tuple], compute: Compute, workers: int
) -> Generator[tuple[tuple, Any], None, list[tuple]]:
    """As `run`; returns the jobs that were lost with a process that died, in their order.

    Those that were not begun are still in `waiting` then.

    Only as many jobs are under way as keep the workers busy, so that neither thousands of them
    nor their results pile up.
    """
    lost: dict[int, tuple] = {}
    running: dict[Any, tuple[int, tuple]] = {}
    numbers = count()
    with _workers(compute, workers) as pool:
        while True:
            while waiting and not lost and len(running) < 2 * workers:
                number, job = next(numbers), waiting.popleft()
                try:
                    running[pool.submit(_outcome, function, job)] = number, job
                except BrokenProcessPool:
                    lost[number] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, job = running.pop(future)
                try:
                    outcome = _result(future)
                except BrokenProcessPool:
                    lost[number] = job
                else:
                    yield job, outcome
    if lost:
        _dismiss()
    return [lost[number] for number in sorted(lost)]


def _result(future: Future) -> Any:
    """What a job returned; a StepError if it ends every Dask worker that tries it."""
    try:
        return future.result()
    except CancelledError:
        raise ClusterError(
            "the connection to the Dask scheduler was lost (compute.scheduler in the config). "
            "Start the scheduler and its workers, then run the same command again to go on"
        ) from None
    except Exception as error:
        dask = sys.modules.get("distributed")
        if dask and isinstance(error, dask.KilledWorker):
            return StepError(_KILLED)
        raise


@contextmanager
def _workers(compute: Compute, workers: int) -> Iterator[Executor]:
    """The workers; kept for the next jobs, since they take a second to start.

    An exception in the block, Ctrl-C among them, ends their work.
    """
    if compute.scheduler != LOCAL:
        pool = _ClusterPool(_client(compute.scheduler))
        try:
            yield pool
        finally:
            pool.shutdown(wait=False)  # drops what has not begun; nothing has if all went well
        return
    if _kept.get("workers") != workers:
        _dismiss()
        _kept.update(workers=workers, pool=_new_pool(workers))
    try:
        yield _kept["pool"]
    except BaseException:
        _dismiss()
        raise


def _new_pool(workers: int) -> ProcessPoolExecutor:
    """Worker processes, started."""
    # A fork has all that is imported, which takes a new process a second. It must come before any
    # thread; macOS has no safe fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    # Ctrl-C has to wait until the workers are ready for it.
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool.submit(int)  # the first job starts the processes
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
    return pool


def _start_worker() -> None:
    """Make this worker process quiet, and end it with its parent, however that ends."""
    cli.quieten()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: without a traceback
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def end_with_parent() -> None:
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _keep_memory() -> None:
    """
    Let this process use freed memory again, instead of giving it back to ask for new.

    The C library of Linux maps each large array anew, and the system fills it with zeros: a third
    of the time that an exposure takes (mallopt(3); other systems have no such function).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for setting in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
        mallopt(setting, _LARGE)


def _dismiss() -> None:
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


# ---- on a Dask cluster -------------------------------------------------------------------------


def _client(address: str) -> Any:
    """The connection to a Dask scheduler, with at least one worker that can do our work."""
    if _kept.get("workers") == address:
        return _kept["client"]
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError(
            f"compute.scheduler is {address}: that needs Dask, which is not installed. "
            "Install it with: pip install distributed"
        ) from None
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address} (compute.scheduler in the config: {error}). "
            "See that 'dask scheduler' runs, that host and port are those it prints, and that no "
            "firewall is between"
        ) from None
    if not client.ncores():
        cli.say(f"waiting for a worker of the Dask scheduler at {address}")
        client.wait_for_workers(1)
    try:
        client.submit(_version, pure=False).result()
    except Exception as error:  # whatever an import raises
        client.close()
        raise ClusterError(
            f"a Dask worker of {address} cannot do this work ({error}). Start the workers in the "
            "Python environment of this script, where 'pip install -e .' has been done"
        ) from None
    _kept.update(workers=address, client=client)
    return client


class _ClusterPool(Executor):
    """The workers of a Dask cluster, with the interface of a pool of processes."""

    def __init__(self, client: Any) -> None:
        # pure: the same job is done anew each time, since what counts is the files it writes.
        self._pool = client.get_executor(pure=False)
        self._environment = {k: v for k, v in os.environ.items() if k.startswith(OF_THE_USER)}

    def submit(self, function: Callable[..., Any], /, *job: Any) -> Future:
        """Call the function on a worker."""
        return self._pool.submit(_on_cluster, self._environment, function, job)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the jobs, or drop them."""
        self._pool.shutdown(wait=wait and not cancel_futures)


def _on_cluster(environment: dict[str, str], function: Callable[..., Any], job: tuple) -> Any:
    """Call the function as the script would, with its CRDS settings and as quiet as it."""
    os.environ.update(environment)
    cli.quieten()
    _keep_memory()
    return function(*job)


def _version() -> str:
    return __version__


def _threads(client: Any) -> int:
    """How many jobs the workers of a cluster can do at the same time."""
    return max(sum(client.ncores().values()), 1)
