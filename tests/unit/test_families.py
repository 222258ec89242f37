# SPDX-License-Identifier: Apache-2.0
"""How the families carry the window, and the silent traps of the ground that this stands on (transformers 5.9)."""

import json

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig

from swarr_verl.families import FAMILIES, SLIDING, apply_window, config_windows, module_windows, window_keys
from swarr_verl.window import WindowError, WindowSpec

PATTERNS = {"all": [7, 7, 7, 7], "full_every:2": [7, None, 7, None], (0,): [None, 7, 7, 7]}
CASES = [
    (family, layers) for family, it in FAMILIES.items() for layers in PATTERNS if layers == "all" or it.has_hybrids
]


@pytest.mark.parametrize(("family", "layers"), CASES)
def test_window_reaches_the_model_and_survives_a_saved_config(family, layers, tmp_path):
    dense = tiny.config(family, layers=4)
    before = dense.to_dict()
    config = apply_window(dense, WindowSpec(7, layers))
    assert dense.to_dict() == before, "the caller's config is his own"
    assert config_windows(config) == PATTERNS[layers]
    assert module_windows(AutoModelForCausalLM.from_config(config)) == PATTERNS[layers]
    config.save_pretrained(tmp_path)
    reread = AutoConfig.from_pretrained(tmp_path)  # stock transformers, no plugin
    assert module_windows(AutoModelForCausalLM.from_config(reread)) == PATTERNS[layers]
    assert window_keys(reread) == window_keys(config)


@pytest.mark.parametrize(("family", "layers"), CASES)
def test_a_twin_has_the_same_parameters(family, layers):
    dense = tiny.config(family, layers=4)
    windowed = apply_window(dense, WindowSpec(7, layers))
    assert windowed._attn_implementation == dense._attn_implementation

    def shapes(config):
        return {name: p.shape for name, p in AutoModelForCausalLM.from_config(config).named_parameters()}

    assert shapes(windowed) == shapes(dense)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_window_in_the_checkpoint_is_refused(family):
    config = apply_window(tiny.config(family), WindowSpec(7))
    apply_window(config, WindowSpec(7))  # its own window is fine
    with pytest.raises(WindowError, match=r"swarr\.window=8.*has the windows 7 \(layers 0-2\).*Set swarr\.window"):
        apply_window(config, WindowSpec(8))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_window_is_narrowed_where_that_is_asked_for(family):
    wide = apply_window(tiny.config(family), WindowSpec(7))
    narrower = apply_window(wide, WindowSpec(6), narrow=True)
    assert config_windows(narrower) == [6] * 3 and config_windows(wide) == [7] * 3
    assert narrower.to_dict() == apply_window(tiny.config(family), WindowSpec(6)).to_dict(), "as from the dense one"
    with pytest.raises(WindowError, match=r"swarr\.window=8.*narrow it first with"):
        apply_window(wide, WindowSpec(8), narrow=True)


def test_a_hybrid_may_slide_in_more_layers_but_not_in_fewer():
    hybrid = apply_window(tiny.config("qwen3"), WindowSpec(7, (0, 1)))
    more = apply_window(hybrid, WindowSpec(7, (0,)))
    assert config_windows(more) == [None, 7, 7]
    with pytest.raises(WindowError, match=r"asks for full \(layers 0-1\), 7 \(layer 2\), but the checkpoint"):
        apply_window(more, WindowSpec(7, (0, 1)))
    with pytest.raises(WindowError, match=r"asks for full \(layers 0-1\), 6 \(layer 2\), but the checkpoint"):
        apply_window(more, WindowSpec(6, (0, 1)), narrow=True)


def test_a_window_that_no_sequence_outgrows_is_none():
    """Phi-3-mini-128k has sliding_window=262144."""
    config = tiny.config("phi3", sliding_window=4096, max_position_embeddings=2048)
    assert config_windows(apply_window(config, WindowSpec(7))) == [7, 7, 7]


@pytest.mark.parametrize("family", [family for family in FAMILIES if (family, (0,)) not in CASES])
def test_a_hybrid_of_a_uniform_family_is_refused(family):
    with pytest.raises(WindowError, match=rf"{family} has one window for all layers. Use swarr\.layers=all"):
        apply_window(tiny.config(family), WindowSpec(7, (0,)))


@pytest.mark.parametrize("bias", ["attention_bias", "mlp_bias"])
def test_a_llama_with_biases_has_no_twin(bias):
    with pytest.raises(WindowError, match=rf"model\.path: llama is built as mistral.*{bias}=true"):
        apply_window(tiny.config("llama", **{bias: True}), WindowSpec(7))


@pytest.mark.parametrize("family", ["olmo2", "olmo3", "phi3"])
def test_rope_that_both_sides_scale_differently_is_refused(family):
    config = tiny.config(family)
    config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    with pytest.raises(WindowError, match=r"model\.path: rope_type='linear' of (olmo3|phi3) is not the same"):
        apply_window(config, WindowSpec(7))


@pytest.mark.parametrize("layers", ["all", (0,)])
def test_a_llamas_rope_scaling_is_its_twins(layers):
    """Llama 3.x."""
    rope = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, rope_theta=5e5)
    dense = tiny.config("llama", rope_parameters={**rope, "original_max_position_embeddings": 16})
    twin = apply_window(dense, WindowSpec(40, layers))
    assert twin.rope_parameters == dense.rope_parameters
    ids = torch.arange(3, 40)[None]  # shorter than the window: the same function
    assert torch.equal(tiny.model(twin)(ids).logits, tiny.model(dense)(ids).logits)
    control = tiny.config("llama", rope_parameters=dict(rope_type="default", rope_theta=5e5))
    assert not torch.equal(tiny.model(control)(ids).logits, tiny.model(dense)(ids).logits)


def test_unsupported_family_is_refused_by_name():
    with pytest.raises(WindowError, match=r"model\.path.*'gemma3_text'.*supported: qwen2, qwen3, qwen3_moe"):
        apply_window(Gemma3TextConfig(num_hidden_layers=2), WindowSpec(8))


def test_module_windows_sees_a_kernel_that_differs_from_its_mask():
    config = apply_window(tiny.config("qwen2"), WindowSpec(7))
    model = AutoModelForCausalLM.from_config(config)
    model.model.layers[1].self_attn.sliding_window = 6
    with pytest.raises(WindowError, match="kernels.*6.*masks"):
        module_windows(model)
    with pytest.raises(WindowError, match="no attention layers"):
        module_windows(torch.nn.Linear(1, 1))


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
