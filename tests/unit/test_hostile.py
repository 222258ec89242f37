# SPDX-License-Identifier: Apache-2.0
"""Hostile text cannot crash, hang or grow the reward; 100,000 more by examples/reward/fuzz.py."""

from concurrent.futures import ThreadPoolExecutor

import psutil
from hostile import HAND_WRITTEN, generated
from hypothesis import given, settings
from hypothesis import strategies as st

from swarr_verl.grading_pool import DEADLINE, MEMORY, START, shared_pool
from swarr_verl.reward import math_reward

GOLDS = (r"\sqrt{x^2+1}", r"\frac{1}{7}", "(1,2)", "42")


def check(response: str, gold: str) -> dict:
    result = math_reward("test", response, gold)
    assert result["score"] in (0.0, 1.0)
    assert result["path"] != "died"
    assert result["seconds"] < 2 * (DEADLINE + START)  # a free worker, and its answer
    return result


def test_the_hand_written_suite():
    assert len(set(HAND_WRITTEN)) >= 200
    cases = [(response, GOLDS[index % len(GOLDS)]) for index, response in enumerate(HAND_WRITTEN)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda case: check(*case), cases))
    wrong = [result["answer"] for result in results if result["score"]]
    assert wrong == [], wrong  # none of them answers its question
    pool = shared_pool()
    assert pool.judge(r"\sqrt{12}", r"2\sqrt{3}") == (True, "symbolic")
    assert all(psutil.Process(pid).memory_info().rss < MEMORY for pid in pool.pids())


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32), gold=st.sampled_from(GOLDS))
def test_generated_responses(seed, gold):
    check(generated(seed), gold)
