# SPDX-License-Identifier: Apache-2.0
"""The wrapper, and that verl's engines assert what they built."""

import pickle

import pytest
from verl.workers.engine import EngineRegistry

from swarr_verl.families import config_windows
from swarr_verl.model import SwarrEngineWithLMHead, SwarrEngineWithValueHead, SwarrModelConfig
from swarr_verl.window import WindowError

SDPA = {"attn_implementation": "sdpa"}


def wrapper(path, window=8) -> SwarrModelConfig:
    knobs = {"window": window, "layers": "all", "max_probs_diff_mean": None}
    return SwarrModelConfig(path=str(path), override_config=dict(SDPA), swarr=knobs)


def test_window_is_on_the_config_and_survives_the_trip_to_a_worker(checkpoint):
    config = pickle.loads(pickle.dumps(wrapper(checkpoint)))
    assert config_windows(config.hf_config) == [8, 8, 8]
    assert config.hf_config.use_sliding_window and config.hf_config.max_window_layers == 0


def test_without_knobs_it_says_what_to_select(checkpoint):
    with pytest.raises(WindowError, match=r"model\.swarr is missing.*\+swarr=sft"):
        SwarrModelConfig(path=str(checkpoint), override_config=dict(SDPA))


@pytest.mark.parametrize("backend", ["fsdp", "fsdp2"])
def test_verl_finds_the_asserting_engines(backend):
    assert EngineRegistry.get_engine_cls("language_model", backend) is SwarrEngineWithLMHead
    assert EngineRegistry.get_engine_cls("value_model", backend) is SwarrEngineWithValueHead


def test_a_built_model_with_another_window_is_refused(checkpoint):
    from transformers import AutoModelForCausalLM

    config = wrapper(checkpoint)
    config.assert_windows(AutoModelForCausalLM.from_pretrained(checkpoint, config=config.hf_config))
    with pytest.raises(WindowError, match=r"applies full \(layers 0-2\), not 8 \(layers 0-2\)"):
        config.assert_windows(AutoModelForCausalLM.from_pretrained(checkpoint))
