# SPDX-License-Identifier: Apache-2.0
r"""Math reward: the last `\boxed{}` (else the last number) against the gold answer, 1.0 or 0.0.

Numbers and equal strings are decided here, exactly and in microseconds (`swarr_verl.grading`); only what is left goes
to math-verify, in worker processes with a deadline (`swarr_verl.grading_pool`, `swarr_verl.symbolic`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_manager import DAPORewardManager, register

from swarr_verl.grading import (
    MAX_ANSWER,
    MAX_RESPONSE,
    Verdict,
    boxed_answers,
    canonical,
    conflicting,
    exact_verdict,
    gold_answer,
    last_number,
)
from swarr_verl.grading_pool import DEADLINE, WORKERS, shared_pool

_MEANS = ("acc", "format", "conflict", "truncated")
_SUMS = {"timeout": "reward/timeouts", "seconds": "reward/seconds"}
DAPO_OPTIONS = ("max_resp_len", "overlong_buffer_cfg")  # of reward.reward_kwargs: verl's DAPORewardManager reads them


def math_reward(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict | None = None,
    *,
    format_score: float = 0.0,
    conflict_penalty: float = 0.0,
    deadline: float = DEADLINE,
    workers: int = WORKERS,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
) -> dict[str, float | str]:
    r"""Judge one response, in the form of verl's `custom_reward_function`.

    Args:
        data_source: not used; nor are `extra_info` and, for reward models, `reward_router_address` and
            `reward_model_tokenizer`: verl passes them.
        solution_str: the response; its last 200,000 characters are read.
        ground_truth: a number, LaTeX, or a rationale ending in `#### 42` (GSM8K) or `\boxed{42}` (MATH).
        format_score: score of a wrong answer in a closed `\boxed{}`.
        conflict_penalty: taken off the score if the boxed answers of the response differ.
        deadline: seconds that math-verify may take for one sample.
        workers: processes for math-verify, at most.

    Returns:
        `score`; `acc` (1.0: right); `answer` as written; `pred`, the answer in one canonical spelling (verl's `maj@k`
        counts votes for it); `format` and `conflict` (1.0: a closed box; boxes that differ); `path`, what decided
        (`swarr_verl.grading.Verdict`); `timeout` (1.0: the worker hung or died, the sample counts as wrong);
        `seconds`, waiting for a worker included.
    """
    reading = _Reading(solution_str, ground_truth)
    verdict = reading.verdict or shared_pool(workers).judge(reading.gold, reading.answer, deadline)
    return reading.result(verdict, format_score, conflict_penalty)


async def _math_reward_async(
    data_source: str, solution_str: str, ground_truth: Any, **options: Any
) -> dict[str, float | str]:
    """Judge as `math_reward`, on the event loop; only a sample for math-verify waits in a thread, and is read again."""
    reading = _Reading(solution_str, ground_truth)
    if reading.verdict:
        return reading.result(reading.verdict, options.get("format_score", 0.0), options.get("conflict_penalty", 0.0))
    return await asyncio.to_thread(math_reward, data_source, solution_str, ground_truth, **options)


class _Reading:
    """What a response and its gold answer say; `verdict` is None if only math-verify can tell."""

    def __init__(self, solution_str: str, ground_truth: Any) -> None:
        self._start = time.perf_counter()
        text = solution_str[-MAX_RESPONSE:]
        self._boxes = boxed_answers(text)
        self.answer = self._boxes[-1] if self._boxes else last_number(text)
        self.gold = gold_answer(ground_truth)
        self.verdict = exact_verdict(self.gold, self.answer)

    def result(self, verdict: Verdict, format_score: float, conflict_penalty: float) -> dict[str, float | str]:
        """Return the dict of `math_reward`."""
        boxed, conflict = bool(self._boxes), conflicting(self._boxes)
        score = 1.0 if verdict.correct else format_score * boxed
        return {
            "score": score - conflict_penalty * conflict,
            "acc": float(verdict.correct),
            "answer": self.answer[:MAX_ANSWER],
            "pred": canonical(self.answer) if len(self.answer) <= MAX_ANSWER else "",
            "format": float(boxed),
            "conflict": float(conflict),
            "path": verdict.path,
            "timeout": float(verdict.path in ("timeout", "died")),
            "seconds": time.perf_counter() - self._start,
        }


def reward_metrics(infos: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what a training step logs of its samples' dicts; nothing if another reward made them.

    `reward/acc`, `format`, `conflict` and `truncated` are means over the samples; `reward/timeouts` and
    `reward/seconds` are sums over them, and so over verl's reward workers, which work side by side.
    """
    if not infos or any(not info.keys() >= {*_MEANS, *_SUMS} for info in infos):
        return {}
    means = {f"reward/{name}": sum(info[name] for info in infos) / len(infos) for name in _MEANS}
    return means | {metric: sum(info[name] for info in infos) for name, metric in _SUMS.items()}


def reward_options(config: Any) -> dict[str, Any]:
    """Return the options of `math_reward` in a config's `reward.reward_kwargs`.

    Raises:
        ValueError: an unknown key or a value that means nothing, with the Hydra key and the remedy.
    """
    given = {key: value for key, value in (config.reward.get("reward_kwargs") or {}).items() if key not in DAPO_OPTIONS}
    rules = {
        "format_score": (lambda value: 0 <= value < 1, "a score in [0, 1): less than the 1 of a right answer"),
        "conflict_penalty": (lambda value: value >= 0, "a penalty >= 0"),
        "deadline": (lambda value: value > 0, "seconds > 0"),
        "workers": (lambda value: value >= 1 and value == int(value), "a number of processes >= 1"),
    }
    for key, value in given.items():
        name = f"reward.reward_kwargs.{key}"
        if key not in rules:
            known = ", ".join((*rules, *DAPO_OPTIONS))
            raise ValueError(f"{name}: swarr_math has no such option. Remove it, or use one of {known}.")
        fits, meaning = rules[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
            raise ValueError(f"{name}={value}: give {meaning}.")
    return given


class _Sample:
    """One sample, for verl's manager: it slices twice what is one row already, each at the price of a fast verdict."""

    def __init__(self, data: DataProto) -> None:
        # the last of several sequences, as verl
        self.batch = {key: data.batch[key][-1] for key in ("responses", "attention_mask")}
        self.non_tensor_batch = {key: values[-1] for key, values in data.non_tensor_batch.items()}

    def __getitem__(self, index: int | slice) -> _Sample:
        return self


class _NoThread:
    """In the place of the event loop that verl's manager has decode in a thread; the tokenizer holds the GIL anyway."""

    async def run_in_executor(self, executor: None, function: Callable[[], str]) -> str:
        """Decode here and now: it takes less time than the way to a thread and back."""
        return function()


@register("swarr_math")
class SwarrRewardManager(DAPORewardManager):
    """verl's DAPO manager (overlong penalty by `reward.reward_kwargs`) around `math_reward`.

    Without a custom function verl passes its own `default_compute_score`, which knows data sources by name
    (verl/trainer/ppo/reward.py, `load_reward_manager`); here `math_reward` takes its place, with its options from
    `reward.reward_kwargs`, and on the event loop; a custom function, which may be slow, stays in verl's threads.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **kwargs: Any) -> None:
        custom = (config.reward.get("custom_reward_function") or {}).get("path")
        if not custom:
            compute_score = partial(_math_reward_async, **reward_options(config))
        super().__init__(config, tokenizer, compute_score, **kwargs)
        if not custom:
            self.loop = _NoThread()
        self._budget = config.data.max_response_length  # once: OmegaConf takes 0.1 ms a look

    async def run_single(self, data: DataProto) -> dict:
        """Score one sample with plain values: verl's overlong penalty gives a tensor or the integer 0.

        Beside what `math_reward` says: `tokens` of the response, whether the budget cut it (`truncated`), and the
        `data_source`, which verl's dump of a validation leaves out.
        """
        sample = _Sample(data)
        result = await super().run_single(sample)
        tokens = int(sample.batch["attention_mask"][-len(sample.batch["responses"]) :].sum())
        info = result["reward_extra_info"]
        info |= {"tokens": tokens, "truncated": float(tokens >= self._budget)}
        info["data_source"] = str(sample.non_tensor_batch["data_source"])
        if "overlong_reward" in info:
            info |= {"overlong_reward": float(info["overlong_reward"]), "overlong": bool(info["overlong"])}
        return {"reward_score": float(result["reward_score"]), "reward_extra_info": info}
