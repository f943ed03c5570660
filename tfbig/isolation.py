"""Runs a function in a child process: a crash, a hang or a flood of messages there is an error message here.

One worker is kept alive per kind of work, so that TensorFlow is imported once, not for every conversion.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, BinaryIO

from tfbig.errors import ConversionFailed, TfbigError

_workers: dict[str, _Worker] = {}
_lock = threading.Lock()


def run_isolated(target: str, *args: Any, timeout: float = 1800.0, worker: str = "convert", **kwargs: Any) -> Any:
    """Calls `target(*args, **kwargs)` in a child process and returns its result.

    Args:
        target: "package.module:function"; arguments and result must be picklable.
        timeout: seconds after which the child is killed.
        worker: which child takes the call; calls with the same name share one process, in turn.

    Raises:
        ConversionFailed: the child died, hung, or raised something that is not a tfbig error;
            the message says which, and ends with the last lines that the child printed.
        TfbigError: raised by `target` itself, passed on as it is.
    """
    with _lock:
        child = _workers.get(worker)
        if child is None or child.process.poll() is not None:
            child = _workers[worker] = _Worker()
        try:
            return child.call(target, args, kwargs, timeout)
        except BaseException:
            # After an interrupt an answer may still be in the pipe: the next call must not read it.
            if child.busy:
                child.kill()
                _workers.pop(worker, None)
            raise


def shut_down() -> None:
    """Ends all workers; the next call starts new ones."""
    for child in _workers.values():
        child.kill()
    _workers.clear()


atexit.register(shut_down)


class _Worker:
    """One child process, its two pipes, and a file with everything it printed."""

    def __init__(self) -> None:
        self.log = tempfile.TemporaryFile(prefix="tfbig-child-")
        to_child_read, to_child_write = os.pipe()
        from_child_read, from_child_write = os.pipe()
        environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self.process = subprocess.Popen(
            # -P: a file of the user's, such as inspect.py in the current folder, must not stand for a library's.
            [sys.executable, "-P", "-m", "tfbig.isolation", str(to_child_read), str(from_child_write)],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            pass_fds=(to_child_read, from_child_write),
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which ends the child itself.
        )
        os.close(to_child_read)
        os.close(from_child_write)
        self.requests: BinaryIO = os.fdopen(to_child_write, "wb")
        self.answers: BinaryIO = os.fdopen(from_child_read, "rb", buffering=0)
        self.busy = False

    def call(self, target: str, args: tuple, kwargs: dict, timeout: float) -> Any:
        self.busy = True
        log_start = os.fstat(self.log.fileno()).st_size
        try:
            _write(self.requests, (target, args, kwargs))
            ok, value = self._answer(time.monotonic() + timeout)
        except (EOFError, BrokenPipeError):
            raise ConversionFailed(f"{_what(target)} {self._cause_of_death()}.{self._tail(log_start)}") from None
        except TimeoutError:
            raise ConversionFailed(
                f"{_what(target)} did not finish within {timeout:g} s and was stopped.{self._tail(log_start)}"
            ) from None
        self.busy = False
        if ok:
            return value
        if isinstance(value, TfbigError):
            raise value
        raise ConversionFailed(f"{_what(target)} failed: {value}")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.requests.close()
        self.answers.close()
        self.log.close()

    def _answer(self, deadline: float) -> tuple[bool, Any]:
        size = struct.unpack("<Q", self._read(8, deadline))[0]
        return pickle.loads(self._read(size, deadline))

    def _read(self, size: int, deadline: float) -> bytes:
        parts: list[bytes] = []
        while size:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            part = self.answers.read(min(size, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _cause_of_death(self) -> str:
        return f"{death(self.process.wait())} in its child process"

    def _tail(self, start: int, lines: int = 4) -> str:
        self.log.seek(start)
        text = self.log.read().decode(errors="replace").strip().splitlines()[-lines:]
        return "\nIts last words:\n  " + "\n  ".join(line[:300] for line in text) if text else ""


def death(code: int) -> str:
    """How a process ended, by its exit code: "was killed by SIGSEGV"."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def _what(target: str) -> str:
    return f"`{target.split(':')[1]}`"


def _write(pipe: BinaryIO, message: Any) -> None:
    payload = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(struct.pack("<Q", len(payload)))
    pipe.write(payload)
    pipe.flush()


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """The child's loop: read a call, run it, answer, until the parent closes the pipe."""
    while header := requests.read(8):
        target, args, kwargs = pickle.loads(requests.read(struct.unpack("<Q", header)[0]))
        module, function = target.split(":")
        try:
            answer = True, getattr(importlib.import_module(module), function)(*args, **kwargs)
        except TfbigError as error:
            answer = False, error
        except Exception as error:  # The child must answer for whatever a third party raises.
            answer = False, f"{type(error).__name__}: {error}"
        _write(answers, answer)


def _end_with(parent: int) -> None:
    """Ends this process when its parent has died: nobody waits for a call that goes on for minutes, with gigabytes."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _serve(os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb"))
