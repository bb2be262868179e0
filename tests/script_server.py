"""Python programs as processes of their own, without the seconds that loading libraries takes.

A server process loads the libraries once, and is forked for each program: what a program finds is
what it would find in a new process that has just done its imports. It has its own folder,
environment, standard streams, process group and exit status. Tests of what happens before the
imports are done, or of signals, start a new process instead.
"""

import array
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "astropy.coordinates", "astropy.wcs", "pyvo", "jwst.background", "crds.certify",
    "wfssbkg.combine.background", "wfssbkg.compare.comparison", "wfssbkg.compare.report",
    "wfssbkg.finalize.finish", "wfssbkg.mask.combination", "wfssbkg.subtract.exposure",
    "wfssbkg.provenance", "wfssbkg.query.archive", "wfssbkg.query.download", "wfssbkg.query.gaia",
    "wfssbkg.query.rate_folder", "wfssbkg.query.stars", "wfssbkg.run.command_line",
)  # fmt: skip


def python(*arguments, cwd, env=None, timeout=300):
    """
    Run Python with some arguments, as `subprocess.run` does, and capture what it prints.

    Parameters
    ----------
    *arguments
        A script, or -m and a module, or -c and code, and what follows it.
    cwd, env, timeout
        As for `subprocess.run`.

    Returns
    -------
    `subprocess.CompletedProcess`
    """
    words = [*map(str, arguments)]
    env = dict(os.environ if env is None else env)
    if not hasattr(os, "fork") or sys.platform == "darwin":  # it has no safe fork
        return subprocess.run(
            [sys.executable, *words], cwd=cwd, env=env, timeout=timeout,
            capture_output=True, text=True,
        )  # fmt: skip
    request = {"arguments": words, "cwd": str(cwd), "env": env}
    with (
        Path(os.devnull).open() as nothing,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
    ):
        status = _server().run(request, (nothing, output, errors), timeout)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, status, output.read(), errors.read())


class _Server:
    """The connection to the server process, which ends with this one."""

    def __init__(self):
        self._turn = threading.Lock()
        self._channel, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(its.fileno())], pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
                env=without_crds(),
            )  # fmt: skip
        self._lines = self._channel.makefile("rw")
        atexit.register(self._end)

    def _end(self):
        self._lines.close()
        self._channel.close()
        self._process.wait()

    def run(self, request, streams, timeout):
        """The exit status of a program, as `subprocess` gives it."""
        with self._turn:
            _send_streams(self._channel, streams)
            print(json.dumps(request), file=self._lines, flush=True)
            child = int(self._lines.readline())
            late = threading.Event()
            watch = threading.Timer(timeout, lambda: (late.set(), _kill(child)))
            watch.start()
            try:
                status = int(self._lines.readline())
            except BaseException:
                _kill(child)
                self._lines.readline()
                raise
            finally:
                watch.cancel()
        if late.is_set():
            raise subprocess.TimeoutExpired(request["arguments"], timeout)
        return status


@functools.cache
def _server():
    return _Server()


def without_crds():
    """The environment variables of this process, but for the settings of CRDS."""
    return {key: value for key, value in os.environ.items() if not key.startswith("CRDS_")}


def _send_streams(channel, streams):
    numbers = array.array("i", [stream.fileno() for stream in streams])
    channel.sendmsg([b"\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])


def _kill(child):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


# ---- the server process


def load():
    """Load the libraries; returns the variables that they have added to the environment."""
    before = set(os.environ)
    for library in LIBRARIES:
        importlib.import_module(library)
    read_schemas()
    gc.freeze()  # pages that garbage collection does not write to stay shared
    return {key: value for key, value in os.environ.items() if key not in before}


def read_schemas():
    """Let stdatamodels read its schemas and load its extensions, as with the first file of any."""
    from stdatamodels.jwst import datamodels

    with tempfile.TemporaryDirectory() as folder:
        for kind in (datamodels.ImageModel, datamodels.FlatModel, datamodels.WfssBkgModel):
            path = Path(folder) / "file.fits"
            with kind((4, 4)) as model:
                model.save(path)
            datamodels.open(path).close()


def serve(channel, added):
    """Fork for each request; only the new processes return, with the arguments of a program."""
    with channel.makefile("rw") as lines:
        while True:
            _, streams, *_ = socket.recv_fds(channel, 1, 3)
            if not streams:
                sys.exit()  # the other end is closed
            request = json.loads(lines.readline())
            child = os.fork()
            if not child:
                become(request, streams, added)
                break
            for stream in streams:
                os.close(stream)
            print(child, file=lines, flush=True)
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), file=lines, flush=True)
    channel.close()
    return request["arguments"]


def become(request, streams, added):
    """Take on the streams, the folder and the environment of a program."""
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(added | request["env"])
    crds = sys.modules["crds"]  # it has read the environment when it was imported
    crds.client.api.set_crds_server(
        os.environ.get("CRDS_SERVER_URL", "https://crds-serverless-mode.stsci.edu")
    )
    crds.core.utils.clear_function_caches()


def end(program, *arguments):
    """Run a program and end as Python does, except that it frees no memory, which takes long."""
    status = 0
    try:
        program(*arguments)
    except SystemExit as ended:
        status = ended.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run(arguments):
    """Run a program as Python itself does."""
    first, *rest = arguments
    if first == "-m":
        sys.argv, sys.path[0] = rest, str(Path.cwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = arguments, str(Path(first).resolve().parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    end(run, serve(socket.socket(fileno=int(sys.argv[1])), load()))
