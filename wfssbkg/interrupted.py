"""Ctrl-C: one line and an exit status of its own, from the first moment of a script to its last."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from typing import Any

STATUS = 130  # as shells have it
SOON = 0.01  # s
_MESSAGE = "\nInterrupted. Run the same command again to go on."


def ends_at_once() -> None:
    """Let Ctrl-C end this process where nothing needs to be put in order: among the imports."""
    for number in (signal.SIGINT, signal.SIGALRM):
        if signal.getsignal(number) is signal.default_int_handler:  # else: not to be ended
            signal.signal(number, _end)


def raises() -> None:
    """Let Ctrl-C be a `KeyboardInterrupt` again, which cleans up on its way."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = _not_lost
        # At its end Python takes the handlers away: Ctrl-C would kill a script that is done.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def say() -> None:
    """Say that the script was interrupted."""
    print(_MESSAGE, file=sys.stderr, flush=True)


def _not_lost(what: Any) -> None:
    """Let a Ctrl-C that came in a destructor, where Python prints it and goes on, come again."""
    if what.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(what)
        return
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, SOON)


def _end(*_: Any) -> None:
    say()
    os._exit(STATUS)
