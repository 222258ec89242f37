# SPDX-License-Identifier: Apache-2.0
"""The math reward: what it takes for the answer, what for equal, and that hostile text cannot hurt it."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import changed, tree
from verl import DataProto
from verl.trainer.ppo.reward import get_custom_reward_fn, load_reward_manager, resolve_reward_manager_cls

from swarr_verl.grading import MAX_ANSWER, Verdict, boxed_answers
from swarr_verl.grading_pool import GradingPool
from swarr_verl.reward import SwarrRewardManager, math_reward, reward_metrics

KEYS = {"score": float, "acc": float, "answer": str, "pred": str, "format": float}
KEYS |= {"conflict": float, "path": str, "timeout": float, "seconds": float}


def score(response: str, gold: object) -> float:
    return math_reward("test", response, gold)["score"]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1}, no: \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}} holds", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed {\{1, 2\}}", r"\{1, 2\}"),
        (r"\fbox{7}", "7"),
        (r"\\boxed{8}", "8"),
        (r"} { \boxed{9} } and a stray {", "9"),
        (r"\boxed{5} and then \boxed{6", "5"),
        (r"\boxed{x \} y}", r"x \} y"),
        (r"\boxed{}", ""),
        ("no box, but 3 and then -1,234.5.", "-1,234.5"),
        ("10 - 3 = 7, so 10-3", "3"),
        ("it is 3/4", "3/4"),
        ("#### 18", "18"),
        (r"only an open \boxed{12", "12"),
        ("no number", ""),
        ("", ""),
    ],
)
def test_extraction(response, answer):
    result = math_reward("test", response, "42")
    assert result["answer"] == answer
    assert result["format"] == float(bool(boxed_answers(response)))
    assert {key: type(value) for key, value in result.items()} == KEYS


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("42", "42"),
        ("42", 42),
        ("42", 42.0),
        ("42.0", "42"),
        ("042", "42"),
        ("+42", "42"),
        ("1,234", "1234"),
        (r"1,\!234", "1234"),
        ("1{,}234", "1234"),
        (r"\$18.50", "18.5"),
        ("$18$", "18"),
        ("18 dollars", "18"),
        (r"18\text{ square feet}", "18"),
        (r"2400 \mbox{ cm}^2", "2400"),
        ("50\\%", "50"),
        ("50 percent", r"50\%"),
        (r"50\%", "0.5"),
        (r"30^\circ", "30"),
        (r"30^{\circ}", "30"),
        ("\u22125", "-5"),
        (".5", "0.5"),
        (r"\frac{3}{4}", "0.75"),
        (r"\dfrac{3}{4}", r"\frac34"),
        ("3/4", r"\frac{3}{4}"),
        (r"\text{Even}", "even"),
        (r"\text{(B)}", "B"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        ("x = 5", "5"),
        (r"2\sqrt{3}", r"\sqrt{12}"),
        ("(x-1)(x+1)", "x^2-1"),
        (r"[3,7] \cup [8,9)", r"[3, 7]\cup[8, 9)"),
        ("2, 1", "1,2"),
        (r"2516_{8}", "2516_8"),
        ("2^{1000}", "2^{1000}"),
        ("18", "She makes 9 * 2 = $<<9*2=18>>18.\n#### 18"),
        ("1200", "so\n#### 1,200"),
        ("9", r"It follows that $x = \boxed{9}$."),
    ],
)
def test_right(answer, gold):
    assert score(rf"\boxed{{{answer}}}", gold) == 1.0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("", ""),
        ("", "42"),
        ("43", "42"),
        ("-42", "42"),
        ("4.2", "42"),
        ("42.0000001", "42"),
        ("5 million", "5"),
        ("5x", "5"),
        ("5 or 6", "5"),
        ("0.5", "50"),
        (r"\frac{1}{3}", "0.33"),
        ("2516", "2516_8"),
        ("2516_7", "2516_8"),
        ("(2,1)", "(1,2)"),
        (r"\text{odd}", "even"),
        ("x^2+1", "x^2-1"),
        (r"\infty", "42"),
        (r"\frac{1}{2^{58}}", r"\frac{1}{2^{98}}"),
        (r"\frac{2}{10^{8}}", "0.00000001"),
        ("4<42", "42"),
        ("1" * (MAX_ANSWER + 1), "1" * (MAX_ANSWER + 1)),
    ],
)
def test_wrong(answer, gold):
    assert score(rf"\boxed{{{answer}}}", gold) == 0.0


def test_a_verdict_does_not_depend_on_what_was_judged_before():
    r"""sympy caches: math-verify finds `|\infty|` equal to any number once `\infty^{\pi}` was compared with it."""
    answers = [
        r"\infty^{\pi}",
        r"|\infty|",
        r"(\infty)^{\frac{9}{9}}",
        r"-3-\sqrt{\infty}",
        r"e^{|\infty|}",
        r"\frac{1}{0}",
    ]
    for gold in (r"\frac{1}{7}", "42", "x+1", r"\infty"):
        assert [score(rf"\boxed{{{answer}}}", gold) for answer in answers * 2] == [0.0] * 12
        assert [score(rf"\boxed{{({answer},2)}}", f"({gold},2)") for answer in answers] == [0.0] * 6
    for answer in (r"(-\infty, 3)", r"[2, +\infty)", r"x < \infty", r"-\infty"):
        assert score(rf"\boxed{{{answer}}}", answer.replace("3", r"\frac{6}{2}").replace("2,", r"\frac{4}{2},")) == 1.0


SNIPPETS = st.sampled_from(
    [r"\boxed{", "}", "{", r"\frac", "^", "_", "$", r"\%", "\\", "1", "23", ",", ".", "x", "=", " "]
)
TEXT = st.text(max_size=60) | st.lists(SNIPPETS, max_size=25).map("".join)


@settings(deadline=None, max_examples=150)
@given(response=TEXT, gold=TEXT | st.integers() | st.floats())
def test_never_raises_and_is_deterministic(response, gold):
    first, second = (math_reward("test", response, gold) for _ in range(2))
    assert first | {"seconds": 0} == second | {"seconds": 0}
    assert {key: type(value) for key, value in first.items()} == KEYS


@settings(deadline=None, max_examples=60)
@given(body=st.lists(SNIPPETS, max_size=12).map("".join))
def test_never_raises_on_broken_latex_in_a_box(body):
    assert score(rf"\boxed{{{body}}}", r"\frac{1}{2}") in (0.0, 1.0)


@given(
    gold=st.integers(),
    other=st.integers(),
    template=st.sampled_from([r"\boxed{%d}", r"\boxed{\$%d}", "so %d."]),
)
def test_integers_are_judged_by_value(gold, other, template):
    assert score(template % gold, str(gold)) == 1.0
    assert score(template % other, f"#### {gold:,}") == float(gold == other)


def test_in_executor_threads():
    cases = [
        (r"\boxed{2\sqrt{3}}", r"\sqrt{12}", 1.0),
        (r"\boxed{x+1}", "x+2", 0.0),
        (r"\boxed{7}", "7", 1.0),
    ] * 4
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(lambda case: score(case[0], case[1]), cases))
    assert scores == [expected for *_, expected in cases]


MANAGER = ("reward.reward_manager.name=swarr_math",)


class Characters:
    """A tokenizer of one token a character."""

    def decode(self, ids: torch.Tensor, skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, ids.tolist()))


def sample(response: str, gold: str, width: int = 40) -> DataProto:
    """One row as verl's agent loop hands it to the reward worker."""
    ids = torch.zeros(1, width, dtype=torch.long)
    ids[0, : len(response)] = torch.tensor([ord(c) for c in response])
    mask = torch.cat([torch.ones(1, 4), (torch.arange(width) < len(response))[None]], dim=1).long()
    rows = {"data_source": "no/such/source", "reward_model": {"ground_truth": gold}, "extra_info": {}}
    return DataProto.from_dict(
        tensors={"prompts": torch.ones(1, 4, dtype=torch.long), "responses": ids, "attention_mask": mask},
        non_tensors={key: np.array([value], dtype=object) for key, value in rows.items()},
    )


def run(config, *rows: DataProto) -> list[dict]:
    async def scores() -> list[dict]:
        manager = load_reward_manager(config, Characters())
        return [await manager.run_single(row) for row in rows]

    return asyncio.run(scores())


def test_manager_from_verls_registry():
    config = tree("rl", "reward.reward_manager.name=swarr_math")
    assert resolve_reward_manager_cls(config) is SwarrRewardManager
    right, wrong = run(config, sample(r"so \boxed{4}", "4"), sample("so 5", "4"))
    assert (right["reward_score"], wrong["reward_score"]) == (1.0, 0.0)
    alike = {"conflict": 0.0, "timeout": 0.0, "truncated": 0.0, "data_source": "no/such/source"}
    for result, expected in (
        (right, {"score": 1.0, "acc": 1.0, "answer": "4", "pred": "4", "format": 1.0, "path": "string", "tokens": 12}),
        (wrong, {"score": 0.0, "acc": 0.0, "answer": "5", "pred": "5", "format": 0.0, "path": "number", "tokens": 4}),
    ):
        assert 0 < result["reward_extra_info"].pop("seconds") < 1
        assert result["reward_extra_info"] == expected | alike


def test_a_sample_at_math_verify_does_not_hold_up_the_others(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(GradingPool, "judge", lambda *args: Verdict(release.wait(60), "symbolic"))
    slow, fast = sample(r"\boxed{2\sqrt{3}}", r"\sqrt{12}"), sample("so 4", "4")

    async def scores() -> tuple[list[float], list[float]]:
        manager = load_reward_manager(tree("rl", *MANAGER), Characters())
        waiting = [asyncio.create_task(manager.run_single(slow)) for _ in range(40)]  # more than there are threads
        await asyncio.sleep(0.1)
        first = [(await manager.run_single(fast))["reward_score"]]
        assert not any(task.done() for task in waiting)
        release.set()
        return first, [result["reward_score"] for result in await asyncio.gather(*waiting)]

    assert asyncio.run(scores()) == ([1.0], [1.0] * 40)


def test_manager_says_what_the_budget_cut():
    config = tree("rl", "reward.reward_manager.name=swarr_math", "data.max_response_length=40")
    found = [row["reward_extra_info"] for row in run(config, sample("4" * 40, "4"), sample("4" * 39, "4"))]
    assert [(info["tokens"], info["truncated"]) for info in found] == [(40, 1.0), (39, 0.0)]


def test_what_a_training_step_logs():
    rows = run(tree("rl", *MANAGER), sample(r"\boxed{4}", "4"), sample("so 5", "4"), sample("4" * 40, "4", width=512))
    infos = [row["reward_extra_info"] for row in rows]
    infos[1] |= {"timeout": 1.0, "seconds": 5.0}
    found = reward_metrics(infos)
    assert found.pop("reward/seconds") == sum(info["seconds"] for info in infos)
    means = {"reward/acc": 1 / 3, "reward/format": 1 / 3, "reward/conflict": 0.0, "reward/truncated": 0.0}
    assert found == means | {"reward/timeouts": 1.0}
    assert reward_metrics([*infos, {"acc": 1.0}]) == reward_metrics([]) == {}  # another reward's


OPTIONS = {"format_score": 0.1, "conflict_penalty": 0.5, "deadline": 9.0, "workers": 1}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (r"\boxed{4}", 1.0),
        (r"so 4", 1.0),
        (r"\boxed{\frac{16}4}", 1.0),
        (r"\boxed{\sqrt{15}}", 0.1),
        (r"\boxed{5}", 0.1),
        (r"so 5", 0.0),
        (r"\boxed{5} \boxed{4}", 0.5),
        (r"\boxed{4} \boxed{5}", -0.4),
        (r"\boxed{4.0} \boxed{4}", 1.0),
        (r"\boxed{} \boxed{\boxed{4}}", 1.0),
    ],
)
def test_format_score_and_conflict_penalty(response, expected):
    config = tree("rl", *MANAGER, *[f"+reward.reward_kwargs.{key}={value}" for key, value in OPTIONS.items()])
    assert run(config, sample(response, "4"))[0]["reward_score"] == pytest.approx(expected)
    assert math_reward("test", response, "4")["score"] == float(response.rstrip("}").endswith("4"))  # off by default


@pytest.mark.parametrize("option", ["formatscore=0.1", "format_score=1", "deadline=0", "workers=0.5", "workers=two"])
def test_an_option_that_means_nothing_is_refused(option):
    config = changed(tree("rl", *MANAGER), f"reward.reward_kwargs.{option}")
    with pytest.raises(ValueError, match=f"^reward.reward_kwargs.{option.split('=')[0]}.*(give|Remove it)"):
        load_reward_manager(config, Characters())


def test_manager_gives_the_overlong_penalty():
    keys = {"max_resp_len": 40, "overlong_buffer_cfg.enable": True, "overlong_buffer_cfg.len": 20}
    keys |= {"overlong_buffer_cfg.penalty_factor": 1.0, "overlong_buffer_cfg.log": True}
    kwargs = [f"+reward.reward_kwargs.{key}={value}" for key, value in keys.items()]
    config = tree("rl", "reward.reward_manager.name=swarr_math", *kwargs)
    short, long = run(config, sample(r"\boxed{4}", "4"), sample(r"\boxed{4}".rjust(30), "4"))
    assert (short["reward_score"], long["reward_score"]) == (1.0, 0.5)
    assert long["reward_extra_info"]["acc"] == 1.0
    for result in (short, long):
        types = {key: type(value) for key, value in result["reward_extra_info"].items()}
        ours = {"tokens": int, "truncated": float, "data_source": str}
        assert types == KEYS | ours | {"overlong_reward": float, "overlong": bool}


def test_a_custom_function_wins(tmp_path):
    (tmp_path / "custom.py").write_text("def third(*args, **kwargs):\n    return 1 / 3\n")
    path = f"reward.custom_reward_function.path={tmp_path}/custom.py"
    config = tree("rl", "reward.reward_manager.name=swarr_math", path, "reward.custom_reward_function.name=third")
    assert run(config, sample("4", "4"))[0]["reward_score"] == 1 / 3


def test_as_verls_custom_reward_function():
    keys = {"path": "pkg://swarr_verl.reward", "name": "math_reward"}
    config = tree("rl", *[f"reward.custom_reward_function.{key}={value}" for key, value in keys.items()])
    assert get_custom_reward_fn(config)("any", r"\boxed{4}", "4", extra_info=None)["score"] == 1.0
    assert run(config, sample("4", "4"))[0]["reward_score"] == 1.0  # under verl's own default manager, `naive`
