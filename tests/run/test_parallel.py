"""Jobs in worker processes, and what happens when one is killed."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from tests.conftest import ROOT
from wfssbkg.config import Compute
from wfssbkg.errors import StepError
from wfssbkg.run.parallel import Workers

COMPUTE = Compute(workers=2, memory_gb=4, scheduler="processes")
OPTIONS = {"description": "testing"}


def workers(**changes):
    return Workers(COMPUTE.model_copy(update=changes), need_gb=0.5)


def square(number):
    if number < 0:
        raise StepError(f"{number} is negative")
    return number**2


def die(number, marks, times):
    """Kill this process, the first `times` times that the number is 3."""
    if number == 3 and len(list(marks.iterdir())) < times:
        (marks / str(time.monotonic_ns())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("number", [1, 2])
def test_every_job_has_its_outcome(number):
    jobs = [(k,) for k in range(-2, 20)]
    outcomes = dict(workers(workers=number).run(square, jobs, **OPTIONS))
    assert len(outcomes) == 22
    for (k,), outcome in outcomes.items():
        assert isinstance(outcome, StepError) if k < 0 else outcome == k**2


def test_a_job_whose_process_is_killed_once_is_done_again(tmp_path):
    jobs = [(k, tmp_path, 1) for k in range(30)]
    assert workers().run_in_order(die, jobs, **OPTIONS) == list(range(30))


def test_a_job_that_ends_every_process_is_named_and_the_others_are_done(tmp_path):
    outcomes = {}
    for (number, *_), outcome in workers().run(
        die, [(k, tmp_path, 99) for k in range(30)], **OPTIONS
    ):
        assert number not in outcomes
        outcomes[number] = outcome
    error = outcomes.pop(3)
    assert isinstance(error, StepError)
    assert "compute.memory_gb" in str(error)
    assert outcomes == {k: k for k in range(30) if k != 3}


def test_the_processes_stay_from_one_step_to_the_next():
    both = workers()
    jobs = [() for _ in range(8)]
    first, second = (set(both.run_in_order(os.getpid, jobs, **OPTIONS)) for _ in range(2))
    assert os.getpid() not in first
    assert len(first | second) <= 2


def test_jobs_that_nobody_waits_for_are_not_begun(tmp_path):
    def begun():
        return len(list(tmp_path.iterdir()))

    both = workers()
    with pytest.raises(StepError):
        both.run_in_order(mark_or_fail, [(k, tmp_path) for k in range(200)], **OPTIONS)
    assert both.run_in_order(square, [(k,) for k in range(9)], **OPTIONS)[8] == 64
    assert begun() < 20


def mark_or_fail(number, marks):
    if number == 0:
        raise StepError("the first fails")
    (marks / str(number)).touch()


@pytest.mark.parametrize(
    ("number", "memory_gb", "need_gb", "expected"),
    [(8, 4.0, 1.2, 3), (2, 4.0, 1.2, 2), (8, 1.0, 1.2, 1), (None, 1.0, 1.0, 1)],
)
def test_no_more_workers_than_the_memory_holds(number, memory_gb, need_gb, expected):
    compute = COMPUTE.model_copy(update={"workers": number, "memory_gb": memory_gb})
    found = Workers(compute, need_gb=need_gb)
    assert (found.number, found.memory_gb) == (expected, memory_gb)


SCRIPT = """
import contextlib
import os
import time
from wfssbkg.config import Compute
from wfssbkg.run import command_line
from wfssbkg.run.parallel import Workers

def wait(number):
    os.write(1, b"begun\\n")  # the whole line at once
    time.sleep(60)

if __name__ == "__main__":
    workers = Workers(Compute(workers=2, memory_gb=4, scheduler="processes"), need_gb=0.5)
    jobs = [(1,), (2,), (3,)]
    def main():
        with contextlib.closing(workers):  # as the scripts do
            list(workers.run(wait, jobs, description="x"))
    command_line.run(main)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_its_parent(tmp_path, how):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # In the background of a shell, tests inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(2):  # both workers; one that only starts would print Python's own traceback
        assert process.stdout.readline() == "begun\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    if how == signal.SIGINT:  # a terminal sends it to all of them
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    process.wait(120)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    errors = process.stderr.read()
    assert "Traceback" not in errors
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Interrupted" in errors
