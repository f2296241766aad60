"""Python processes without their start, which is five seconds of imports: a server that has them forks each process."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryFile

MODULES = (  # what a run needs that torch and Lightning don't import by themselves
    "lit_optim.builder", "lit_optim.cli.assemble", "lit_optim.cli.failures", "lit_optim.cli.lr_find",
    "lit_optim.cli.ranks", "lit_optim.cli.resume", "lit_optim.data", "lit_optim.figure",
    "lit_optim.integration.callbacks", "lit_optim.integration.fsdp", "lit_optim.integration.tensorboard",
    "lit_optim.models", "lit_optim.render", "matplotlib.backends.backend_agg", "torch.distributed.checkpoint",
    "torch.distributed.tensor.experimental", "torch.utils.tensorboard",
)  # fmt: skip
_NUMBER = struct.Struct("q")


class Forked:
    """What ``python -m module …`` or ``python -c code …`` is, in a process of its own; of ``Popen``, what tests need.

    The imports alone are shared with others: ranks get their processes here as well, and those of Lightning's own
    launcher and of torchrun.
    """

    def __init__(
        self,
        args: Sequence[str],
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        *,
        server: str,
        stdin: int = subprocess.DEVNULL,
        process_group: int | None = None,
        start_new_session: bool = False,
    ) -> None:
        assert args[0] == sys.executable
        assert stdin == subprocess.DEVNULL
        asked = {
            "arguments": [one for one in args[1:] if one != "-u"],
            "leads": process_group == 0,
            "is_apart": start_new_session,
            "cwd": str(cwd or Path.cwd()),
            "env": {**(os.environ if env is None else env)},
        }
        self.returncode: int | None = None
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(server)
        socket.send_fds(self._line, [b" "], [1 if stdout is None else stdout, 2 if stderr is None else stderr])
        self._line.sendall(json.dumps(asked).encode() + b"\n")
        self.pid = self._number()

    def poll(self) -> int | None:
        """The exit code, once there is one."""
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code."""
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("forked", timeout or 0.0)
            self.returncode = self._number()
            self._line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _number(self) -> int:
        return int(_NUMBER.unpack(self._line.recv(_NUMBER.size, socket.MSG_WAITALL))[0])


class Server:
    """Starts processes.

    Args:
        address: Of the socket that it makes.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            command, handle = [sys.executable, __file__, str(listener.fileno())], [listener.fileno()]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=handle)

    def start(self, *arguments: str, cwd: Path, stdout: int, stderr: int, **environment: str) -> Forked:
        """A running ``python``; ``environment`` beside that of this process."""
        command = [sys.executable, *arguments]
        return Forked(command, cwd, {**os.environ, **environment}, stdout, stderr, server=self.address)

    def run(self, *arguments: str, cwd: Path, timeout: float = 120, **environment: str) -> CompletedProcess[str]:
        """``subprocess.run`` with what was printed; ``environment`` beside that of this process."""
        command = [sys.executable, *arguments]
        with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            streams = out.fileno(), err.fileno()
            process = Forked(command, cwd, {**os.environ, **environment}, *streams, server=self.address)
            try:
                process.wait(timeout)
            finally:
                process.send_signal(signal.SIGKILL)
                code = process.wait()
            out.seek(0)
            err.seek(0)
            return CompletedProcess(command, code, out.read(), err.read())

    def close(self) -> None:
        """End it; what it has started goes on."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(listener: socket.socket) -> list[str]:
    """Fork a process for each that is asked for; returns in these alone, with their arguments."""
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if sys.stdin in ready:  # who started this has ended
            os._exit(0)
        line, _ = listener.accept()
        if os.fork() == 0:
            _, streams, *_ = socket.recv_fds(line, 1, 2)
            with line.makefile("rb") as reader:
                asked = json.loads(reader.readline())
            child = os.fork()
            if child == 0:
                break
            for stream in streams:
                os.close(stream)
            line.sendall(_NUMBER.pack(child))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with contextlib.suppress(BrokenPipeError):  # nobody waits
                line.sendall(_NUMBER.pack(code))
            os._exit(0)
        line.close()
    line.close()
    listener.close()
    if asked["leads"]:
        os.setpgid(0, 0)
    if asked["is_apart"]:
        os.setsid()
    for own, handle in enumerate((os.open(os.devnull, os.O_RDONLY), *streams)):
        os.dup2(handle, own)
        os.close(handle)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    return list(asked["arguments"])


def become(kind: str, what: str, *arguments: str) -> None:
    """What Python does with its command line."""
    sys.path[0] = os.getcwd()  # noqa: PTH109 - as a text
    sys.argv[:] = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    import functools

    from lightning.pytorch.strategies.launchers import subprocess_script
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    from lit_optim.cli import ranks

    for module in MODULES:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as given:
        address = given.getsockname()
        own = serve(given)
    ranks.Popen = functools.partial(Forked, server=address)  # type: ignore[assignment, misc]
    subprocess_script.subprocess = types.SimpleNamespace(Popen=ranks.Popen)  # type: ignore[attr-defined]
    subprocess_handler.Popen = ranks.Popen  # type: ignore[assignment, misc]
    try:
        become(*own)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    else:
        code = 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # an interpreter that cleans up after itself takes longer than most tests
