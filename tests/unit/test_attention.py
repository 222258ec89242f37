# SPDX-License-Identifier: Apache-2.0
"""The choice of a kernel on faked machines."""

import sys

import pytest
import torch

from swarr_verl import attention, doctor
from swarr_verl.model import SwarrModelConfig, _AssertWindows
from swarr_verl.window import WindowError

HOPPER, AMPERE, TURING = (9, 0), (8, 0), (7, 5)


def machine(monkeypatch, sm=None, fa4=False, fa2=False, torch_has_windows=True, transformers_fits=True):
    """A machine with a GPU of `sm` (None: no GPU) and these packages."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: sm is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: sm)
    monkeypatch.setattr(attention, "is_flash_attn_4_available", lambda: fa4 and sm is not None)
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: fa2 and sm is not None)
    monkeypatch.setattr(attention, "has_windows", lambda: torch_has_windows)
    monkeypatch.setattr(attention, "_transformers_fits", lambda: transformers_fits)


@pytest.mark.parametrize(
    ("here", "kernel"),
    [
        (dict(sm=HOPPER, fa4=True, fa2=True), "flash_attention_4"),
        (dict(sm=HOPPER, fa4=True, fa2=True, transformers_fits=False), "flash_attention_2"),
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


@pytest.mark.parametrize(
    "here", [dict(sm=TURING), dict(sm=HOPPER, torch_has_windows=False), dict(sm=HOPPER, transformers_fits=False)]
)
def test_a_gpu_is_never_given_a_reference_unasked(monkeypatch, here):
    machine(monkeypatch, **here)
    with pytest.raises(WindowError, match=r"flash-attn is not usable.*torch >= 2\.10.*attn_implementation=sdpa"):
        attention.choose()
    assert attention.choose("sdpa") == "sdpa"


def test_the_doctor_names_the_choice_first(monkeypatch):
    machine(monkeypatch, sm=HOPPER, fa2=True)
    assert doctor.check_kernels() == "flash_attention_2, torch_varlen, sdpa, eager"
    machine(monkeypatch)
    assert doctor.check_kernels() == "sdpa, torch_varlen, eager"
    machine(monkeypatch, sm=TURING)
    with pytest.raises(doctor.Miss, match="none for long rows"):
        doctor.check_kernels()


def test_what_is_asked_for_is_had(monkeypatch):
    machine(monkeypatch, sm=HOPPER, fa4=True, fa2=True)
    for name in attention.NEEDS:
        assert attention.choose(name) == name


@pytest.mark.parametrize(
    ("here", "asked", "message"),
    [
        (dict(sm=HOPPER), "flash_attention_2", r"=flash_attention_2, but flash-attn is not usable here.*sdpa"),
        (dict(sm=TURING), "torch_varlen", r"=torch_varlen, but torch's own kernels.*a GPU of sm_80"),
        (dict(sm=AMPERE, fa4=True), "flash_attention_4", r"=flash_attention_4, but .*a GPU of sm_90"),
        (dict(sm=HOPPER), "flex_attention", r"=flex_attention: only flash_attention_4.*honour the window"),
        (dict(sm=HOPPER), "flash_attention_3", r"=flash_attention_3: only"),
    ],
)
def test_what_cannot_be_had_is_refused_by_key_and_remedy(monkeypatch, here, asked, message):
    machine(monkeypatch, **here)
    with pytest.raises(WindowError, match=rf"model\.override_config\.attn_implementation{message}"):
        attention.choose(asked)


def test_ulysses_takes_the_kernels_that_verl_patches(monkeypatch):
    machine(monkeypatch, sm=HOPPER, fa4=True, fa2=True)
    assert attention.choose(sequence_parallel=2) == "flash_attention_4"
    for asked in attention.PACKED:
        assert attention.choose(asked, sequence_parallel=2) == asked
    for asked in attention.REFERENCES:
        with pytest.raises(WindowError, match=rf"ulysses_sequence_parallel_size=2.*={asked}: each GPU.*size=1"):
            attention.choose(asked, sequence_parallel=2)
    machine(monkeypatch)
    assert attention.choose(sequence_parallel=2) == "torch_varlen"
    machine(monkeypatch, sm=TURING)
    with pytest.raises(WindowError, match="flash-attn is not usable"):
        attention.choose(sequence_parallel=2)


class Built:
    """Stands for verl's engine: builds what the config says, or what `stubborn` says."""

    stubborn, rank, ulysses_sequence_parallel_size = None, 0, 1

    def _build_module(self):
        from transformers import AutoModelForCausalLM

        kernel = self.stubborn or self.model_config.hf_config._attn_implementation
        self.model_config.hf_config._attn_implementation = kernel
        return AutoModelForCausalLM.from_config(self.model_config.hf_config)

    def prepare_model_inputs(self, micro_batch):
        """As verl's do: `pad_size` comes with packed rows."""
        return {"position_ids": None}, dict(micro_batch["output_args"])


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


@pytest.mark.parametrize(
    ("kernel", "ranks", "output_args", "told"),
    [
        ("torch_varlen", 1, {"pad_size": 0}, True),
        ("flash_attention_2", 1, {"pad_size": 0}, True),
        ("sdpa", 1, {"pad_size": 0}, False),
        ("torch_varlen", 2, {"pad_size": 0}, False),
        ("torch_varlen", 1, {"pad_size": 3}, False),
        ("torch_varlen", 1, {}, False),  # padded rows
    ],
)
def test_packed_rows_are_told_where_a_kernel_takes_them(checkpoint, kernel, ranks, output_args, told):
    built = engine(checkpoint)
    built.model_config.hf_config._attn_implementation = kernel
    built.ulysses_sequence_parallel_size = ranks
    rows = torch.nested.nested_tensor([torch.arange(5), torch.arange(2)], layout=torch.jagged)
    inputs, _ = built.prepare_model_inputs({"input_ids": rows, "output_args": output_args})
    bounds = {key: value for key, value in inputs.items() if key != "position_ids"}
    if not told:
        assert bounds == {}
        return
    for side in "qk":
        assert bounds[f"cu_seq_lens_{side}"].tolist() == [0, 5, 7]
        assert bounds[f"cu_seq_lens_{side}"].dtype == torch.int32
        assert bounds[f"max_length_{side}"] == 5


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


def test_verl_takes_padding_out_without_flash_attn(monkeypatch):
    """`use_remove_padding=true` needs no package and no patch: verl 0.9.1 has the functions itself."""
    from verl.utils import attention_utils

    monkeypatch.setitem(sys.modules, "flash_attn", None)
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    x = torch.arange(12.0).view(2, 3, 2)
    tokens, indices, cu, longest, _ = attention_utils.unpad_input(x, mask)
    assert cu.tolist() == [0, 2, 5] and longest == 3
    assert torch.equal(attention_utils.pad_input(tokens, indices, 2, 3), x * mask[..., None])
