# SPDX-License-Identifier: Apache-2.0
"""Worker processes that run `swarr_verl.symbolic` under a hard deadline, outside the trainer's process.

A worker is a fresh interpreter (exec, never a bare fork: the parent has threads and perhaps CUDA) without torch and
verl, with bounded memory and a fixed hash seed. It answers one sample at a time; one that hangs or dies is replaced.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, Pipe

import psutil

from swarr_verl.grading import Verdict

DEADLINE = 5.0  # seconds of wall-clock time for one sample, from the moment a worker has it
WORKERS = 2  # in each process that scores; verl has `reward.num_workers` of those
MEMORY = 2**29  # bytes of address space of a worker; 2**26 with sympy imported
RETIRE = 2**28  # bytes of resident memory at which a worker is replaced after its answer
START = 120.0  # seconds that a worker may take to import sympy, on a machine that is busy

_BOOT = "import sys; sys.path[:] = {path!r}; from swarr_verl.grading_pool import serve; serve({fd})"


class Worker:
    """One process and the parent's end of its pipe. Not thread-safe: the pool lends it to one thread at a time.

    Raises:
        RuntimeError: the process does not get as far as its first sample.
    """

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            boot = _BOOT.format(path=sys.path, fd=theirs.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-c", boot],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"PYTHONHASHSEED": "0"},  # sympy orders some sets by hash
            )
        try:
            if self._connection.poll(START):
                self._connection.recv_bytes()
                return
        except (EOFError, OSError):
            pass
        self.stop()
        raise RuntimeError(
            f"A grading worker did not start (exit code {self._process.returncode}; its error is on stderr). Check "
            f"`{sys.executable} -c 'import math_verify'`, and that {MEMORY // 2**20} MiB of memory are free."
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def judge(self, gold: str, answer: str, deadline: float) -> Verdict:
        """Compare two answers within `deadline` seconds; a worker that did not answer is stopped."""
        try:
            self._connection.send_bytes(json.dumps([gold, answer, deadline]).encode())
            if self._connection.poll(deadline):
                correct, path, fit = json.loads(self._connection.recv_bytes())
                if not fit:
                    self.stop()
                return Verdict(correct, path)
        except (EOFError, OSError):
            self.stop()
            return Verdict(False, "died")
        self.stop()
        return Verdict(False, "timeout")

    def stop(self) -> None:
        """Kill the process and wait for its end."""
        self._process.kill()
        self._process.wait()
        self._connection.close()


class GradingPool:
    """Workers, each started when all others are busy. Thread-safe.

    Args:
        workers: how many at most.
    """

    def __init__(self, workers: int = WORKERS) -> None:
        self._size = workers
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()  # last in, first out: the started ones first
        for _ in range(workers):
            self._idle.put(None)

    def judge(self, gold: str, answer: str, deadline: float = DEADLINE) -> Verdict:
        """Compare two answers in a worker; blocks until one is free and has answered, or was stopped."""
        worker = self._idle.get()
        try:
            if worker is not None:
                verdict = worker.judge(gold, answer, deadline)
                if verdict.path != "died":  # it may have died before this sample: a new one shall say
                    return verdict
            worker = Worker()
            return worker.judge(gold, answer, deadline)
        finally:
            self._idle.put(worker)

    def pids(self) -> list[int]:
        """Return the ids of the live workers that are idle."""
        return [worker.pid for worker in list(self._idle.queue) if worker is not None and worker.is_alive()]

    def close(self) -> None:
        """Stop every worker, after what they are at; a later sample starts new ones."""
        for worker in [self._idle.get() for _ in range(self._size)]:
            if worker is not None:
                worker.stop()
            self._idle.put(None)


_POOLS: dict[int, GradingPool] = {}
_LOCK = threading.Lock()
os.register_at_fork(after_in_child=_POOLS.clear)  # a forked child must not talk to its parent's workers


def shared_pool(workers: int = WORKERS) -> GradingPool:
    """Return this process's pool of that size; it is closed at exit."""
    with _LOCK:
        if workers not in _POOLS:
            _POOLS[workers] = GradingPool(workers)
            atexit.register(_POOLS[workers].close)
        return _POOLS[workers]


def serve(fd: int) -> None:
    """Judge samples from the socket `fd` until the other end closes. The main function of a worker."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, whose end closes the socket
    from swarr_verl.symbolic import symbolic_verdict

    process = psutil.Process()  # not getrusage: its maximum starts from the parent's size
    connection = Connection(fd)
    connection.send_bytes(b"ready")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # parsers complain of hostile text at length
    while True:
        try:
            gold, answer, deadline = json.loads(connection.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, deadline + 1)  # SIGALRM ends the process, even if the parent is gone
        verdict = symbolic_verdict(gold, answer)
        signal.setitimer(signal.ITIMER_REAL, 0)
        fit = process.memory_info().rss < RETIRE
        connection.send_bytes(json.dumps([*verdict, fit]).encode())
