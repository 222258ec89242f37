# SPDX-License-Identifier: Apache-2.0
"""The choice of a kernel on faked machines; `torch_varlen` over torch's kernel written out in loops."""

import sys
import types

import pytest
import tiny
import torch
from transformers import modeling_flash_attention_utils as upstream
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from swarr_verl import attention, doctor
from swarr_verl.families import apply_window
from swarr_verl.model import SwarrModelConfig, _AssertWindows
from swarr_verl.window import WindowError, WindowSpec, visible

HOPPER, AMPERE, TURING = (9, 0), (8, 0), (7, 5)


def machine(monkeypatch, sm=None, fa4=False, fa2=False, torch_has_windows=True):
    """A machine with a GPU of `sm` (None: no GPU) and these packages."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: sm is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: sm)
    monkeypatch.setattr(attention, "is_flash_attn_4_available", lambda: fa4 and sm is not None)
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: fa2 and sm is not None)
    monkeypatch.setattr(attention, "_torch_has_windows", lambda: torch_has_windows)


@pytest.mark.parametrize(
    ("here", "kernel"),
    [
        (dict(sm=HOPPER, fa4=True, fa2=True), "flash_attention_2"),
        (dict(sm=HOPPER, fa4=True), "torch_varlen"),
        (dict(sm=AMPERE, fa4=True, fa2=True), "flash_attention_2"),
        (dict(sm=AMPERE, fa4=True), "torch_varlen"),
        (dict(sm=HOPPER, fa2=True), "flash_attention_2"),
        (dict(sm=HOPPER), "torch_varlen"),
        (dict(sm=HOPPER, fa2=True, torch_has_windows=False), "flash_attention_2"),
        (dict(), "sdpa"),
        (dict(fa4=True, fa2=True), "sdpa"),
    ],
)
def test_automatic_choice(monkeypatch, here, kernel):
    machine(monkeypatch, **here)
    assert attention.choose() == kernel


@pytest.mark.parametrize("here", [dict(sm=TURING), dict(sm=HOPPER, torch_has_windows=False)])
def test_a_gpu_is_never_given_a_reference_unasked(monkeypatch, here):
    machine(monkeypatch, **here)
    with pytest.raises(WindowError, match=r"flash-attn is not usable.*torch >= 2\.10.*attn_implementation=sdpa"):
        attention.choose()
    assert attention.choose("sdpa") == "sdpa"


def test_the_doctor_names_the_choice_first(monkeypatch):
    machine(monkeypatch, sm=HOPPER, fa2=True)
    assert doctor.check_kernels() == "flash_attention_2, torch_varlen, sdpa, eager"
    machine(monkeypatch)
    assert doctor.check_kernels() == "sdpa, eager"
    machine(monkeypatch, sm=TURING)
    with pytest.raises(doctor.Miss, match="none for long rows"):
        doctor.check_kernels()


def test_what_is_asked_for_is_had(monkeypatch):
    machine(monkeypatch, sm=HOPPER, fa4=True, fa2=True)
    for name in ("flash_attention_2", "torch_varlen", "sdpa", "eager"):
        assert attention.choose(name) == name


@pytest.mark.parametrize(
    ("here", "asked", "message"),
    [
        (dict(sm=HOPPER), "flash_attention_2", r"=flash_attention_2, but flash-attn is not usable here.*sdpa"),
        (dict(), "torch_varlen", r"=torch_varlen, but torch's own kernels.*a GPU of sm_80"),
        (dict(sm=HOPPER), "flex_attention", r"=flex_attention: only flash_attention_4.*honour the window"),
        (dict(sm=HOPPER), "flash_attention_3", r"=flash_attention_3: only"),
    ],
)
def test_what_cannot_be_had_is_refused_by_key_and_remedy(monkeypatch, here, asked, message):
    machine(monkeypatch, **here)
    with pytest.raises(WindowError, match=rf"model\.override_config\.attn_implementation{message}"):
        attention.choose(asked)


def test_flash_attention_4_is_refused_while_it_fails_on_short_rows(monkeypatch):
    machine(monkeypatch, sm=HOPPER, fa4=True, fa2=True)
    assert "flash_attention_4" in attention.available()
    with pytest.raises(WindowError, match=r"=flash_attention_4: .*rows no longer than the window.*Leave the key out"):
        attention.choose("flash_attention_4")


def test_ulysses_takes_the_kernels_that_verl_patches(monkeypatch):
    machine(monkeypatch, sm=HOPPER, fa4=True, fa2=True)
    assert attention.choose(sequence_parallel=2) == "flash_attention_2"
    assert attention.choose("flash_attention_2", sequence_parallel=2) == "flash_attention_2"
    for asked in ("torch_varlen", "sdpa", "eager"):
        with pytest.raises(WindowError, match=rf"ulysses_sequence_parallel_size=2.*={asked}: each GPU.*size=1"):
            attention.choose(asked, sequence_parallel=2)
    machine(monkeypatch, sm=HOPPER)
    with pytest.raises(WindowError, match="ulysses_sequence_parallel_size=2.*Install flash-attn"):
        attention.choose(sequence_parallel=2)


class Built:
    """Stands for verl's engine: builds what the config says, or what `stubborn` says."""

    stubborn, rank, ulysses_sequence_parallel_size = None, 0, 1

    def _build_module(self):
        from transformers import AutoModelForCausalLM

        kernel = self.stubborn or self.model_config.hf_config._attn_implementation
        self.model_config.hf_config._attn_implementation = kernel
        return AutoModelForCausalLM.from_config(self.model_config.hf_config)


class Engine(_AssertWindows, Built):
    pass


def engine(checkpoint, **override_config) -> Engine:
    built = Engine()
    knobs = {"window": 8, "layers": "all"}
    built.model_config = SwarrModelConfig(path=str(checkpoint), override_config=override_config, swarr=knobs)
    return built


def test_an_engine_builds_with_the_chosen_kernel_and_says_so_once(checkpoint, monkeypatch, capsys):
    machine(monkeypatch, sm=HOPPER)
    attention.announce.cache_clear()
    for _ in range(2):
        assert engine(checkpoint)._build_module().config._attn_implementation == "torch_varlen"
    said = [line for line in capsys.readouterr().out.splitlines() if "attention kernel" in line]
    assert len(said) == 1 and "[swarr] attention kernel: torch_varlen" in said[0] and attention.KEY in said[0]


def test_a_config_made_without_a_gpu_does_not_fix_the_kernel_of_a_worker(checkpoint, monkeypatch):
    machine(monkeypatch)
    made = engine(checkpoint)
    machine(monkeypatch, sm=HOPPER)
    assert made._build_module().config._attn_implementation == "torch_varlen"


def test_reading_the_config_does_not_open_the_gpu(checkpoint, monkeypatch):
    """It would fix the process's devices, which verl chooses later, and hold memory on one of them."""
    machine(monkeypatch, sm=HOPPER, fa4=True)
    monkeypatch.delattr(torch.cuda, "get_device_capability")
    for asked in ({}, {"attn_implementation": "torch_varlen"}):
        assert engine(checkpoint, **asked).model_config.override_config == asked


def test_an_engine_refuses_another_kernel_and_ulysses_without_one(checkpoint, monkeypatch):
    made = engine(checkpoint, attn_implementation="sdpa")
    made.stubborn = "eager"
    with pytest.raises(WindowError, match=r"attn_implementation: sdpa, but verl built eager"):
        made._build_module()
    made.ulysses_sequence_parallel_size = 2
    with pytest.raises(WindowError, match="ulysses_sequence_parallel_size=2"):
        made._build_module()


def written_out(q, k, v, cu_q, cu_k, max_q, max_k, *, scale, window_size, enable_gqa=False):
    """`varlen_attn` by its documentation, in loops: (tokens, heads, head_dim), the last query at the last key."""
    assert cu_q.dtype == cu_k.dtype == torch.int32 and window_size[1] == 0
    assert (max_q, max_k) == (int(cu_q.diff().max()), int(cu_k.diff().max())) and type(max_q) is type(max_k) is int
    groups, out = q.shape[1] // k.shape[1], torch.zeros_like(q)
    for row in range(len(cu_q) - 1):
        queries, keys = slice(cu_q[row], cu_q[row + 1]), slice(cu_k[row], cu_k[row + 1])
        scores = torch.einsum("qhd,khd->hqk", q[queries], k[keys].repeat_interleave(groups, 1)) * scale
        seen = visible(*scores.shape[1:], None if window_size[0] < 0 else window_size[0] + 1)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        out[queries] = torch.einsum("hqk,khd->qhd", weights, v[keys].repeat_interleave(groups, 1))
    return out


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(attention, "varlen_attn", written_out)


def both(family: str, window: int | None):
    """The same weights in fp64 over `torch_varlen`, and over sdpa's mask."""
    models = []
    for kernel in ("torch_varlen", "sdpa"):
        config = tiny.config(family)  # one each: a model's kernel is written into its config
        if window is not None:
            config = apply_window(config, WindowSpec(window))
        models.append(tiny.model(config, attn=kernel))
    assert [model.config._attn_implementation for model in models] == ["torch_varlen", "sdpa"]
    return models


def ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(3, 128, (rows, length), generator=torch.Generator().manual_seed(1))


def logits_and_grads(model, tokens, mask=None, **inputs):
    embeds = model.get_input_embeddings()(tokens).detach().requires_grad_()
    logits = model(inputs_embeds=embeds, attention_mask=mask, use_cache=False, **inputs).logits
    if mask is not None:  # what stands at a pad is nobody's
        logits = logits * mask[..., None]
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=logits.dtype)
    (grad,) = torch.autograd.grad((logits * weight).sum(), embeds)
    return logits.detach(), grad


PACKED = torch.cat([torch.arange(n) for n in (40, 1, 3, 53)])[None]
INPUTS = {
    "batch": (ids(2, 60), {}),
    "packed": (ids(1, 97), {"position_ids": PACKED}),
    "left-padded": (ids(3, 60), {"mask": torch.arange(60) >= torch.tensor([[0], [7], [59]])}),
    "right-padded": (ids(3, 60), {"mask": torch.arange(60) < torch.tensor([[60], [53], [1]])}),
}


@pytest.mark.parametrize("window", [1, 16, None])
@pytest.mark.parametrize("family", ["qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("case", INPUTS)
def test_torch_varlen_is_sdpa(kernel, family, window, case):
    tokens, inputs = INPUTS[case]
    for ours, oracle in zip(*(logits_and_grads(m, tokens, **inputs) for m in both(family, window)), strict=True):
        torch.testing.assert_close(ours, oracle, atol=1e-9, rtol=1e-9)


def test_control_another_window_diverges(kernel):
    oracle, _ = logits_and_grads(both("qwen2", 16)[1], *INPUTS["packed"][:1], position_ids=PACKED)
    for other in (15, 17, None):
        ours, _ = logits_and_grads(both("qwen2", other)[0], *INPUTS["packed"][:1], position_ids=PACKED)
        assert (ours - oracle).abs().max() > 1e-3, other


def test_generation_with_a_cache_is_sdpas(kernel):
    prompt = ids(1, 30)
    ours, oracle = (m.generate(prompt, max_new_tokens=12, do_sample=False) for m in both("qwen2", 8))
    assert torch.equal(ours, oracle)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"position_ids": PACKED},
        {"position_ids": torch.arange(97)[None]},
        {"position_ids": torch.arange(97)[None] + 5},
        {"position_ids": torch.cat([torch.arange(4, 20), torch.arange(81)])[None]},  # a row that starts late
        dict(
            position_ids=PACKED,
            cu_seq_lens_q=(cu := torch.tensor([0, 50, 97], dtype=torch.int32)),
            cu_seq_lens_k=cu,
            max_length_q=50,
            max_length_k=50,
        ),
    ],
    ids=["nothing", "packed", "one row", "one shifted row", "late start", "offsets"],
)
def test_rows_end_where_flash_attention_2_ends_them(kernel, monkeypatch, inputs):
    """transformers' own path with the same loops in the place of flash-attn's two functions."""

    def varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, causal, softmax_scale, window_size):
        lengths = cu_seqlens_q, cu_seqlens_k, int(max_seqlen_q), int(max_seqlen_k)
        return written_out(q, k, v, *lengths, scale=softmax_scale, window_size=(window_size[0], 0))

    def dense(q, k, v, **options):
        cu = torch.tensor([0, q.shape[1]], dtype=torch.int32)
        return varlen(q[0], k[0], v[0], cu, cu, q.shape[1], k.shape[1], **options)[None]

    functions = (dense, varlen, None, upstream._pad_input, upstream._unpad_input)
    process = upstream._lazy_define_process_function(varlen)
    monkeypatch.setattr(upstream, "lazy_import_flash_attention", lambda _: (functions, process))
    q, k, v = (torch.randn(1, heads, 97, 8, dtype=torch.float64) for heads in (4, 2, 2))
    module = types.SimpleNamespace(is_causal=True, config=types.SimpleNamespace(_attn_implementation="any"))
    calls = [ALL_ATTENTION_FUNCTIONS[name] for name in ("torch_varlen", "flash_attention_2")]
    ours, theirs = (f(module, q, k, v, None, scaling=0.3, sliding_window=9, **inputs)[0] for f in calls)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"dropout": 0.1}, "attention_dropout"),
        ({"softcap": 30.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "attention sinks"),
        ({"is_causal": False}, "not causal"),
        ({"attention_mask": torch.ones(1, 1, 5, 5)}, r"not \(batch, keys\)"),
    ],
)
def test_what_torchs_kernel_lacks_is_refused(kernel, inputs, named):
    module = types.SimpleNamespace(is_causal=True)
    q = torch.zeros(1, 4, 5, 8)
    inputs = {"attention_mask": None, **inputs}
    with pytest.raises(WindowError, match=f"=torch_varlen has no .*{named}.*sdpa"):
        attention.varlen_attention(module, q, q, q, scaling=1.0, sliding_window=4, **inputs)


def test_torch_of_this_machine_has_windows():
    assert attention._torch_has_windows()


def test_verl_takes_padding_out_without_flash_attn(monkeypatch):
    """`use_remove_padding=true` needs no package and no patch: verl 0.9.1 has the functions itself."""
    from verl.utils import attention_utils

    monkeypatch.setitem(sys.modules, "flash_attn", None)
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    x = torch.arange(12.0).view(2, 3, 2)
    tokens, indices, cu, longest, _ = attention_utils.unpad_input(x, mask)
    assert cu.tolist() == [0, 2, 5] and longest == 3
    assert torch.equal(attention_utils.pad_input(tokens, indices, 2, 3), x * mask[..., None])
