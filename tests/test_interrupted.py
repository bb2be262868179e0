"""Ctrl-C where Python would lose it."""

import subprocess
import sys

import pytest

from wfssbkg import interrupted

# Python prints a KeyboardInterrupt that comes in a destructor or in a callback, and goes on.
SWALLOWED = """
import os, signal, time, weakref
from wfssbkg import cli, interrupted

class Thing:
    def __del__(self):
        if {in_destructor}:
            os.kill(os.getpid(), signal.SIGINT)

def main():
    thing = Thing()
    if not {in_destructor}:
        kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del thing
    for _ in range(100):
        time.sleep(0.1)

interrupted.ends_at_once()
cli.run(main)
"""


@pytest.mark.parametrize("in_destructor", [True, False])
def test_ctrl_c_in_a_destructor_or_callback_is_not_lost(in_destructor):
    script = SWALLOWED.format(in_destructor=in_destructor)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == interrupted.STATUS
    assert done.stderr == "\nInterrupted. Run the same command again to go on.\n"


AT_THE_END = """
import os, signal, sys
from wfssbkg import cli, interrupted

class Late:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGINT):
        kill(process, number)

interrupted.ends_at_once()
sys.late = Late()
cli.run(lambda: 0)
"""


def test_ctrl_c_after_all_is_done_changes_nothing():
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True)
    assert done.returncode == 0
    assert not done.stderr
