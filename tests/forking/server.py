"""``python -m tests.forking.server FD``: fork a service for each request that comes through a socket.

A request is JSON, ``{"module": ..., "environment": {...}}``, with the descriptor of the file that the service writes
to. The answers are ``{"pid": ...}`` and, once the service has ended, ``{"pid": ..., "code": ...}``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

IMPORTED = ("trainer_svc.__main__", "scorer_svc.bootstrap", "oracle_svc.__main__", "llvmlite.binding", "torch")
REQUEST_BYTES_MAX = 1 << 17


def serve(requests: socket.socket) -> tuple[str, dict[str, str], int] | None:
    """Fork for each request until the other end closes, then kill the forks and return None; in a fork, return
    module, environment and output descriptor of its service."""
    alive: set[int] = set()
    died, wake_up = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake_up)
    while True:
        readable, _, _ = select.select([requests.fileno(), died], [], [])
        if died in readable:
            os.read(died, 1 << 12)
            _tell_who_ended(requests, alive)
        if requests.fileno() in readable:
            message, descriptors, _, _ = socket.recv_fds(requests, REQUEST_BYTES_MAX, 1)
            if not message:
                for pid in alive:
                    os.kill(pid, signal.SIGKILL)
                return None
            if pid := os.fork():
                alive.add(pid)
                os.close(descriptors[0])
                requests.send(json.dumps({"pid": pid}).encode())
                continue
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (died, wake_up):
                os.close(descriptor)
            request = json.loads(message)
            return request["module"], request["environment"], descriptors[0]


def _tell_who_ended(requests: socket.socket, alive: set[int]) -> None:
    with suppress(ChildProcessError):  # no children
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            alive.remove(pid)
            requests.send(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def become(module: str, environment: dict[str, str], output: int) -> NoReturn:
    """Run ``python -m module`` in a session of its own.

    Exits without the interpreter's shutdown, as services do: libraries would wait for threads that a fork lacks.
    """
    os.setsid()
    Path("/proc/self/comm").write_text(module)  # the name in `ps` and `top`
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module]
    sys.modules.pop(f"{module}.__main__", None)
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = _exit_code(end)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(end: SystemExit) -> int:
    """As the interpreter does it: anything but a number is printed."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def main() -> None:
    for name in IMPORTED:
        with suppress(ModuleNotFoundError):  # an extra is not installed: the service reports that
            importlib.import_module(name)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        work = serve(requests)
    if work:
        become(*work)


if __name__ == "__main__":
    main()
