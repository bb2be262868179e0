"""The workers of a script: processes of this machine, or those of a Dask cluster."""

import multiprocessing.connection
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from functools import cached_property
from typing import Any

from wfssbkg.config import LOCAL, Compute
from wfssbkg.errors import ClusterError, StepError
from wfssbkg.run import messages

CONNECT_TIMEOUT = 10  # s; for a scheduler on a busy login node

_OF_THE_USER = ("CRDS_", "WFSSBKG_")  # beginnings of environment variables that affect the work
_KILLED = (
    "its worker process was killed, usually because memory ran out: "
    "see compute.workers and compute.memory_gb in the config"
)


class Workers:
    """
    The workers of a script, which are started with its first jobs and stay until its end.

    Parameters
    ----------
    compute : `~wfssbkg.config.Compute`
        Where: in processes on this machine, or on the workers of a Dask scheduler.
    need_gb : float
        What a worker needs at most, GB; on this machine there are no more than the memory holds.
    """

    def __init__(self, compute: Compute, *, need_gb: float) -> None:
        self._compute, self._need_gb = compute, need_gb
        self._local = compute.scheduler == LOCAL

    @cached_property
    def number(self) -> int:
        """How many workers there are; at least 1."""
        if not self._local:
            return max(sum(self._client.ncores().values()), 1)
        wanted = self._compute.workers or available_cores()
        return max(1, min(wanted, int(self._compute.memory_gb / self._need_gb)))

    def close(self) -> None:
        """End the worker processes."""
        if "_executor" in self.__dict__:
            self._executor.shutdown()
            del self._executor

    @property
    def memory_gb(self) -> float:
        """What all of them together may take, GB."""
        return self._compute.memory_gb * (1 if self._local else self.number)

    def run(
        self,
        function: Callable[..., Any],
        jobs: Sequence[tuple],
        *,
        description: str,
        unit: str = "exposures",
    ) -> Iterator[tuple[tuple, Any]]:
        """
        Call `function(*job)` for each job in parallel, with a progress bar.

        Parameters
        ----------
        function : callable
            A function of a module.
        jobs : sequence of tuples
        description, unit : str
            For the progress bar.

        Yields
        ------
        job : tuple
        outcome
            What the function returned, or the `StepError` it raised, in the order in which the
            jobs end. A job whose worker is killed is done again; one that ends its worker time
            and again gets a `StepError`.

        Raises
        ------
        ClusterError
            If the Dask scheduler cannot be reached.
        """
        if not jobs:
            return
        alone = self._local and min(self.number, len(jobs)) == 1
        by_us = ((job, _attempt({}, function, job)) for job in jobs)
        with messages.bar(description, len(jobs), unit) as bar:
            for job, outcome in by_us if alone else self._in_parallel(function, jobs):
                yield job, outcome
                bar.update()

    def run_in_order(
        self, function: Callable[..., Any], jobs: Sequence[tuple], **options: Any
    ) -> list[Any]:
        """As `run`, for jobs that must all succeed: their results in order, or a StepError."""
        results = {}
        for job, outcome in self.run(function, jobs, **options):
            if isinstance(outcome, StepError):
                raise outcome
            results[id(job)] = outcome
        return [results[id(job)] for job in jobs]

    def _in_parallel(
        self, function: Callable[..., Any], jobs: Sequence[tuple]
    ) -> Iterator[tuple[tuple, Any]]:
        """
        As `run`, by some workers.

        Only as many jobs are under way as keep the workers busy, so that neither thousands of them
        nor their results pile up. When a process of this machine dies, it is not known which job it
        had: those that were under way are then done again one at a time, and one that ends its
        process once more has failed. Dask does that by itself.
        """
        waiting, running, lost = deque(jobs), {}, []
        try:
            while waiting or running:
                while waiting and not lost and len(running) < 2 * self.number:
                    job = waiting.popleft()
                    try:
                        running[_submit(self._executor, function, job)] = job
                    except futures.BrokenExecutor:
                        lost.append(job)
                for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                    job = running.pop(future)
                    try:
                        outcome = _result(future)
                    except futures.BrokenExecutor:
                        lost.append(job)
                    else:
                        yield job, outcome
                if lost and not running:
                    self.close()
                    yield from ((job, _on_its_own(function, job)) for job in lost)
                    lost = []
        finally:  # also if the caller stops early: jobs under way may still write files
            futures.wait(running)

    @cached_property
    def _executor(self) -> futures.Executor:
        # pure: the same job is done anew each time, since what counts is the files it writes.
        return _processes(self.number) if self._local else self._client.get_executor(pure=False)

    @cached_property
    def _client(self) -> Any:
        return _connected(self._compute.scheduler)


def available_cores() -> int:
    """The number of cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _submit(executor: futures.Executor, function: Callable[..., Any], job: tuple) -> futures.Future:
    """Hand a job to a worker, with what those of a cluster do not inherit."""
    ours = {key: value for key, value in os.environ.items() if key.startswith(_OF_THE_USER)}
    return executor.submit(_attempt, ours, function, job)


def _attempt(environment: dict[str, str], function: Callable[..., Any], job: tuple) -> Any:
    """The function's result, or its error as a value, so that one bad exposure stops nothing."""
    os.environ.update(environment)
    messages.quieten()
    try:
        return function(*job)
    except StepError as error:
        return error


def _result(future: futures.Future) -> Any:
    """What a job returned; a StepError if it ended every Dask worker that tried it."""
    try:
        return future.result()
    except futures.CancelledError:
        raise ClusterError(
            "the connection to the Dask scheduler was lost (compute.scheduler in the config). "
            "Start the scheduler and its workers, then run the same command again to go on"
        ) from None
    except Exception as error:
        if type(error).__name__ == "KilledWorker":  # of Dask, which may not be installed
            return StepError(_KILLED)
        raise


def _on_its_own(function: Callable[..., Any], job: tuple) -> Any:
    """The outcome of a job in a process of its own."""
    with _processes(1) as executor:
        try:
            return _submit(executor, function, job).result()
        except futures.BrokenExecutor:
            return StepError(_KILLED)


def _processes(number: int) -> futures.ProcessPoolExecutor:
    # A fork has all that is imported, which takes a new process seconds. macOS has no safe fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    return futures.ProcessPoolExecutor(number, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """Let a worker process end with its parent, however that ends, and at once at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def end_with_parent() -> None:
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _connected(address: str) -> Any:
    """The connection to a Dask scheduler, with at least one worker that can do our work."""
    try:
        from distributed import Client  # optional, and not needed on one machine
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
        messages.say(f"waiting for a worker of the Dask scheduler at {address}")
        client.wait_for_workers(1)
    try:
        client.submit(available_cores, pure=False).result()
    except Exception as error:  # whatever an import raises
        client.close()
        raise ClusterError(
            f"a Dask worker of {address} cannot do this work ({error}). Start the workers in the "
            "Python environment of this script, where 'pip install -e .' has been done"
        ) from None
    return client
