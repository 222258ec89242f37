# SPDX-License-Identifier: Apache-2.0
"""verl's count of attention FLOPs, less what the window hides; where it hides nothing, verl's number bit for bit."""

import inspect
import subprocess
import sys

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from verl.utils import flops_counter
from verl.utils.flops_counter import ESTIMATE_FUNC, FlopsCounter

from swarr_verl import model  # noqa: F401  (registers the counts)
from swarr_verl.families import FAMILIES, FULL, SLIDING, apply_window
from swarr_verl.flops import windowed
from swarr_verl.window import WindowSpec, visible, visible_pairs

LENGTHS = [1, 7, 8, 100, 1999]
HYBRID = [SLIDING, FULL, SLIDING]
SHAPE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)

each_family = pytest.mark.parametrize("family", FAMILIES)


def config(family: str, window: int | None):
    built = tiny.config(family)
    if window is not None:
        built = apply_window(built, WindowSpec(window))
    return built


def ours(hf_config, lengths: list[int]) -> float:
    return ESTIMATE_FUNC[hf_config.model_type](hf_config, sum(lengths), lengths, 0.7)


def verls(hf_config, lengths: list[int], tokens: int | None = None) -> float:
    estimate = inspect.unwrap(ESTIMATE_FUNC[hf_config.model_type])
    assert estimate.__module__ == flops_counter.__name__
    return estimate(hf_config, sum(lengths) if tokens is None else tokens, lengths, 0.7)


@given(st.integers(0, 80), st.one_of(st.none(), st.integers(1, 100)))
def test_visible_pairs_counts_visible(length, window):
    assert visible_pairs(length, window) == int(visible(length, length, window).sum())


@settings(deadline=None)
@given(st.lists(st.integers(0, 48), min_size=1, max_size=6), st.integers(1, 60), st.sampled_from(sorted(FAMILIES)))
def test_attention_is_verls_term_for_the_pairs_that_are_visible(lengths, window, family):
    hf_config = config(family, window)
    without_attention = verls(hf_config, [], tokens=sum(lengths))
    attention = sum(
        verls(hf_config, [n], tokens=0) * int(visible(n, n, window).sum()) / int(visible(n, n, None).sum())
        for n in lengths
        if n
    )
    assert ours(hf_config, lengths) == pytest.approx(without_attention + attention, rel=1e-12)


@each_family
@pytest.mark.parametrize("window", [None, max(LENGTHS), 10**6])
def test_a_window_that_hides_nothing_has_verls_number(family, window):
    assert ours(config(family, window), LENGTHS) == verls(config(family, None), LENGTHS)


@each_family
def test_a_narrower_window_counts_less(family):
    counts = [ours(config(family, window), LENGTHS) for window in (1, 2, 99, 100, 1998, 1999)]
    assert counts == sorted(set(counts))
    assert counts[0] > verls(config(family, None), [], tokens=sum(LENGTHS))


def saved(hf_config, estimate) -> float:
    """What the window takes off verl's number."""
    return estimate(hf_config, 2000, [2000], 0.7) - windowed(estimate)(hf_config, 2000, [2000], 0.7)


def test_layers_with_full_attention_keep_verls_number():
    keys = dict(use_sliding_window=True, sliding_window=9, max_window_layers=0)
    estimate = inspect.unwrap(ESTIMATE_FUNC["qwen3"])
    whole, hybrid, dense = (
        saved(tiny.config("qwen3", **keys, layer_types=layers), estimate)
        for layers in ([SLIDING] * 3, HYBRID, [FULL] * 3)
    )
    assert dense == 0
    assert hybrid == pytest.approx(whole * 2 / 3, rel=1e-9)


def test_the_experts_of_a_mixture_are_left_alone():
    hf_config, estimate = config("qwen3_moe", 9), inspect.unwrap(ESTIMATE_FUNC["qwen3_moe"])
    hidden = 1 - visible_pairs(2000, 9) / visible_pairs(2000, None)
    assert saved(hf_config, estimate) == pytest.approx(estimate(hf_config, 0, [2000], 0.7) * hidden, rel=1e-9)


@each_family
def test_verls_counter_counts_the_window(family):
    """Through the door that verl's workers use, with the keyword that they add for images."""
    windowed_flops, promised = FlopsCounter(config(family, 8)).estimate_flops(LENGTHS, 0.7, images_seqlens=None)
    dense_flops, _ = FlopsCounter(config(family, None)).estimate_flops(LENGTHS, 0.7, images_seqlens=None)
    assert windowed_flops == ours(config(family, 8), LENGTHS)
    assert dense_flops == verls(config(family, None), LENGTHS)
    assert windowed_flops < dense_flops
    assert promised > 0


def test_other_families_are_verls_own():
    assert {name for name, f in ESTIMATE_FUNC.items() if inspect.unwrap(f) is not f} == set(FAMILIES)
    llama = LlamaConfig(num_hidden_layers=2, sliding_window=8)  # transformers ignores it, and so does the count
    assert ours(llama, LENGTHS) == verls(LlamaConfig(num_hidden_layers=2), LENGTHS)


@pytest.mark.parametrize("family", ["ministral", "phi3", "olmo3"])
def test_a_family_that_verl_lacks_is_counted_as_llama(family):
    dense = config(family, None)
    llama = LlamaConfig(**{key: getattr(dense, key) for key in SHAPE})
    assert ours(dense, LENGTHS) == verls(llama, LENGTHS) > 0


def test_a_run_without_our_model_config_is_verls_own():
    code = """
import verl
from verl.utils.flops_counter import ESTIMATE_FUNC
before = ESTIMATE_FUNC["qwen2"]
import swarr_verl.model
print(hasattr(before, "__wrapped__"), ESTIMATE_FUNC["qwen2"].__wrapped__ is before)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout == "False True\n", result.stderr
