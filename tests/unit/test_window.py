# SPDX-License-Identifier: Apache-2.0
"""The definition, and the silent traps of the ground that it stands on (transformers 5.9)."""

import json

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from swarr_verl.window import (
    SLIDING,
    WindowError,
    WindowSpec,
    apply_window,
    config_windows,
    describe,
    module_windows,
    visible,
    window_keys,
)

FAMILIES = ("qwen2", "qwen3", "mistral")


@pytest.mark.parametrize("window", [0, -1, 1.5, "64", True, None])
def test_not_a_window(window):
    with pytest.raises(WindowError, match=r"swarr\.window.*whole number"):
        WindowSpec(window)


def test_layers_that_vllm_ignores_are_refused():
    with pytest.raises(WindowError, match=r"swarr\.layers.*Use swarr\.layers=all"):
        WindowSpec(64, layers="every_4th_full")


@given(st.integers(1, 24), st.integers(0, 24), st.one_of(st.none(), st.integers(1, 40)))
def test_visible_is_the_sentence_in_the_docstring(num_queries, older, window):
    num_keys = num_queries + older
    mask = visible(num_queries, num_keys, window)
    for i in range(num_queries):
        q = older + i
        for k in range(num_keys):
            assert mask[i, k] == (k <= q and (window is None or q - window < k))


@pytest.mark.parametrize("family", FAMILIES)
def test_window_reaches_the_model_and_survives_a_saved_config(family, tmp_path):
    config = tiny.config(family)
    assert not any(config_windows(config))
    apply_window(config, WindowSpec(7))
    assert config_windows(config) == [7, 7, 7]
    assert module_windows(AutoModelForCausalLM.from_config(config)) == [7, 7, 7]
    config.save_pretrained(tmp_path)
    reread = AutoConfig.from_pretrained(tmp_path)  # stock transformers, no plugin
    assert module_windows(AutoModelForCausalLM.from_config(reread)) == [7, 7, 7]
    assert window_keys(reread) == window_keys(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_window_in_the_checkpoint_is_refused(family):
    config = tiny.config(family)
    apply_window(config, WindowSpec(7))
    apply_window(config, WindowSpec(7))  # its own window is fine
    with pytest.raises(WindowError, match=r"swarr\.window=8.*has the windows 7 \(layers 0-2\).*Set swarr\.window"):
        apply_window(config, WindowSpec(8))


def test_unsupported_family_is_refused_by_name():
    with pytest.raises(WindowError, match=r"model\.path.*'llama'.*supported: qwen2, qwen3, mistral"):
        apply_window(LlamaConfig(num_hidden_layers=2), WindowSpec(8))


def test_module_windows_sees_a_kernel_that_differs_from_its_mask():
    config = tiny.config("qwen2")
    apply_window(config, WindowSpec(7))
    model = AutoModelForCausalLM.from_config(config)
    model.model.layers[1].self_attn.sliding_window = 6
    with pytest.raises(WindowError, match="kernels.*6.*masks"):
        module_windows(model)
    with pytest.raises(WindowError, match="no attention layers"):
        module_windows(torch.nn.Linear(1, 1))


def test_describe_runs():
    assert describe([4, 4, None, 4]) == "4 (layers 0-1), full (layer 2), 4 (layer 3)"


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_trap_the_window_that_is_not_there(family, tmp_path):
    """Why the plugin exists: the obvious ways leave a dense model, silently (DESIGN 2.1)."""
    config = tiny.config(family)
    config.save_pretrained(tmp_path)
    asked = AutoConfig.from_pretrained(tmp_path, use_sliding_window=True, sliding_window=7, max_window_layers=0)
    assert not any(config_windows(asked))
    raw = json.loads((tmp_path / "config.json").read_text())
    raw.update(use_sliding_window=False, sliding_window=7, layer_types=[SLIDING] * 3)
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert not any(config_windows(AutoConfig.from_pretrained(tmp_path)))


def test_trap_llama_ignores_its_window():
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(0, 64, (1, 32))
    dense = model(ids).logits
    model.config.sliding_window = 4
    assert torch.equal(model(ids).logits, dense)
