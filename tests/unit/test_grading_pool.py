# SPDX-License-Identifier: Apache-2.0
"""The worker processes: a deadline that holds, workers replaced, nothing carried from one sample to the next."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swarr_verl import grading_pool
from swarr_verl.grading_pool import GradingPool, Worker, shared_pool
from swarr_verl.reward import math_reward

RIGHT = (r"\sqrt{12}", r"2\sqrt{3}")
CASES = [RIGHT, ("x+1", "x+2"), ("(x-1)(x+1)", "x^2-1"), (r"\frac{\pi}{2}", r"\frac{2\pi}{4}"), ("x", r"\frac{")]


@pytest.fixture
def pool():
    pool = GradingPool(workers=1)
    yield pool
    pool.close()


def test_workers_start_when_needed_and_stop_on_close(pool):
    assert pool.pids() == []
    assert pool.judge(*RIGHT) == (True, "symbolic")
    (pid,) = pool.pids()
    assert pool.judge(*RIGHT).correct and pool.pids() == [pid]
    pool.close()
    assert pool.pids() == [] and not Path(f"/proc/{pid}").exists()
    assert pool.judge(*RIGHT).correct


def test_a_worker_that_hangs_is_replaced(pool):
    pool.judge(*RIGHT)
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    assert pool.judge(*RIGHT, deadline=0.3) == (False, "timeout")
    assert 0.3 <= time.monotonic() - start < 5
    assert not Path(f"/proc/{pid}").exists()
    assert pool.judge(*RIGHT) == (True, "symbolic") and pool.pids() != [pid]


def test_a_sample_whose_worker_dies_is_judged_again_by_a_new_one(pool):
    pool.judge(*RIGHT)
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    assert pool.judge(*RIGHT, deadline=60) == (True, "symbolic") and pool.pids() != [pid]


def test_a_worker_that_died_idle_costs_no_sample(pool):
    pool.judge(*RIGHT)
    os.kill(pool.pids()[0], signal.SIGKILL)
    assert pool.judge(*RIGHT) == (True, "symbolic")


def test_a_sample_that_kills_its_workers_is_counted(pool, monkeypatch):
    deadly = "import os, swarr_verl.symbolic as s; s.symbolic_verdict = lambda *args: os._exit(9);"
    with monkeypatch.context() as patch:
        patch.setattr(grading_pool, "_BOOT", deadly + grading_pool._BOOT)
        assert pool.judge(*RIGHT) == (False, "died")
    assert pool.judge(*RIGHT) == (True, "symbolic")


def test_math_reward_counts_timeouts():
    pool = shared_pool(3)
    pool.judge(*RIGHT)
    os.kill(pool.pids()[0], signal.SIGSTOP)
    result = math_reward("test", r"\boxed{2\sqrt{3}}", r"\sqrt{12}", deadline=0.2, workers=3)
    assert (result["score"], result["path"], result["timeout"]) == (0.0, "timeout", 1.0)
    assert math_reward("test", r"\boxed{2\sqrt{3}}", r"\sqrt{12}", workers=3)["timeout"] == 0.0
    pool.close()


def test_the_worker_itself_ends_a_sample_when_the_parent_is_gone():
    worker = Worker()
    worker._connection.send_bytes(b'["x^2+1", "y^2+2", -0.9999]')  # SIGALRM after 0.1 ms
    assert worker._process.wait(60) == -signal.SIGALRM


def test_a_worker_that_has_grown_is_retired(monkeypatch):
    monkeypatch.setattr(
        grading_pool, "_BOOT", "import swarr_verl.grading_pool as g; g.RETIRE = 1;" + grading_pool._BOOT
    )
    pool = GradingPool(workers=1)
    assert pool.judge(*RIGHT) == (True, "symbolic")
    assert pool.pids() == []
    assert pool.judge(*RIGHT) == (True, "symbolic")


def test_a_worker_that_cannot_start_says_so(monkeypatch):
    monkeypatch.setattr(grading_pool, "_BOOT", "raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="exit code 3.*math_verify"):
        GradingPool(workers=1).judge(*RIGHT)


def test_answers_do_not_depend_on_threads_or_order():
    pool = GradingPool(workers=2)
    expected = {case: pool.judge(*case) for case in CASES}
    mixed = random.Random(0).choices(CASES, k=60)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda case: pool.judge(*case), mixed)) == [expected[case] for case in mixed]
    assert len(pool.pids()) == 2
    pool.close()


def test_no_symbolic_parser_in_the_parent_and_no_torch_in_the_worker():
    code = (
        "import sys; from swarr_verl.reward import math_reward;"
        r"assert math_reward('', r'\boxed{2\sqrt{3}}', r'\sqrt{12}')['acc'] == 1;"
        "print('math_verify' in sys.modules)"
    )
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert parent.stdout.split()[-1] == "False"
    code = "import sys, swarr_verl.symbolic; print({'torch', 'verl', 'numpy'} & set(sys.modules))"
    worker = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert worker.stdout.strip() == "set()"
