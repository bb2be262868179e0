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
from wfssbkg import StepError, parallel
from wfssbkg.config import Compute

COMPUTE = Compute(workers=2, memory_gb=4, scheduler="processes")
OPTIONS = {"description": "testing", "compute": COMPUTE}


@pytest.fixture(autouse=True)
def no_pool_is_left():
    yield
    parallel._dismiss()


def square(number):
    if number < 0:
        raise StepError(f"{number} is negative")
    return number**2


def die(number, marks, times):
    """Ends its process the first `times` times it is called with 3."""
    if number == 3 and len(list(marks.iterdir())) < times:
        (marks / str(time.monotonic_ns())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_has_its_outcome(workers):
    options = OPTIONS | {"compute": COMPUTE.model_copy(update={"workers": workers})}
    outcomes = dict(parallel.run(square, [(k,) for k in range(-2, 20)], **options))
    assert len(outcomes) == 22
    for (number,), outcome in outcomes.items():
        assert isinstance(outcome, StepError) if number < 0 else outcome == number**2


def test_a_job_whose_process_is_killed_once_is_done_again(tmp_path):
    jobs = [(k, tmp_path, 1) for k in range(30)]
    assert parallel.run_in_order(die, jobs, **OPTIONS) == list(range(30))


def test_a_job_that_ends_every_process_is_named_and_the_others_are_done(tmp_path):
    outcomes = {}
    for (number, *_), outcome in parallel.run(
        die, [(k, tmp_path, 99) for k in range(30)], **OPTIONS
    ):
        assert number not in outcomes
        outcomes[number] = outcome
    error = outcomes.pop(3)
    assert isinstance(error, StepError)
    assert "compute.memory_gb" in str(error)
    assert outcomes == {k: k for k in range(30) if k != 3}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_begun_beside_others_has_its_outcome(workers):
    compute = COMPUTE.model_copy(update={"workers": workers})
    wanted, wrong = (parallel.begin(square, number, compute=compute) for number in (7, -7))
    assert parallel.run_in_order(square, [(k,) for k in range(9)], **OPTIONS)[8] == 64
    assert wanted() == 49
    with pytest.raises(StepError, match="-7 is negative"):
        wrong()


def test_a_job_begun_in_a_process_that_is_killed_is_done_all_the_same(tmp_path):
    wanted = parallel.begin(die, 3, tmp_path, 1, compute=COMPUTE)
    assert parallel.run_in_order(square, [(k,) for k in range(9)], **OPTIONS)[8] == 64
    assert wanted() == 3
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("workers", "memory_gb", "need_gb", "expected"),
    [(8, 4.0, 1.2, 3), (2, 4.0, 1.2, 2), (8, 1.0, 1.2, 1), (None, 1.0, 1.0, 1)],
)
def test_no_more_workers_than_the_memory_holds(workers, memory_gb, need_gb, expected):
    compute = COMPUTE.model_copy(update={"workers": workers, "memory_gb": memory_gb})
    assert parallel.capacity(compute, need_gb=need_gb) == (expected, memory_gb)


SCRIPT = """
import os
import time
from wfssbkg import parallel

def wait(number):
    os.write(1, b"begun\\n")  # in one piece
    time.sleep(60)

if __name__ == "__main__":
    from wfssbkg import cli
    from wfssbkg.config import Compute
    compute = Compute(workers=2, memory_gb=4, scheduler="processes")
    cli.run(lambda: list(parallel.run(wait, [(1,), (2,), (3,)], compute=compute, description="x")))
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
    )
    assert process.stdout.readline() == "begun\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    if how == signal.SIGINT:  # as a terminal does, to all of them
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    process.wait(20)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    errors = process.stderr.read()
    assert "Traceback" not in errors
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Interrupted" in errors


# Each worker gets Ctrl-C before it has begun, as when it comes in the moment of the fork.
AT_THE_FORK = """
import os, signal
from wfssbkg import StepError, cli, interrupted, parallel
from wfssbkg.config import Compute

def main():
    compute = Compute(workers=2, memory_gb=4, scheduler="processes")
    outcomes = parallel.run(abs, [(1,), (2,)], compute=compute, description="x")
    assert all(isinstance(outcome, StepError) for _, outcome in outcomes)
    return 0

interrupted.ends_at_once()
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))
cli.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are not forked")
def test_a_worker_that_is_interrupted_at_once_has_no_traceback():
    done = subprocess.run([sys.executable, "-c", AT_THE_FORK], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
