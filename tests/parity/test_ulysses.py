# SPDX-License-Identifier: Apache-2.0
"""Ulysses over two processes and gloo, through verl's own patch and slicing, against one process, in fp64.

Packed rows that a shard's end cuts, windows shorter and longer than a shard, every family, hybrids.
"""

import pytest
import tiny
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from swarr_verl import attention, varlen
from swarr_verl.families import FAMILIES, apply_window
from swarr_verl.window import WindowSpec

RANKS = 2
ROWS = (40, 3, 53, 1, 100)  # 197 tokens: padded to 198, shards of 99, of which the last row alone fills one
CASES = {
    **{family: (family, 16, "all", {}) for family in FAMILIES},
    **{f"{family} hybrid": (family, 16, (0,), {}) for family in FAMILIES if FAMILIES[family].has_hybrids},
    **{f"qwen2, window {w}": ("qwen2", w, "all", {}) for w in (1, 15, 17, 98, 99, 100, 150)},
    "one key head for two ranks": ("qwen3", 16, "all", {"num_key_value_heads": 1}),
}


def build(family: str, window: int, layers, extra: dict):
    config = apply_window(tiny.config(family, **extra), WindowSpec(window, layers))
    return tiny.model(config, attn=varlen.TORCH_VARLEN)


def inputs(model) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings (1, tokens, hidden), positions (1, tokens), the weights of a projection of the logits."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 128, (1, sum(ROWS)), generator=generator)
    weight = torch.randn(1, sum(ROWS), 128, generator=generator, dtype=torch.float64)
    return model.get_input_embeddings()(ids).detach(), torch.cat([torch.arange(n) for n in ROWS])[None], weight


def alone(case: str) -> dict[str, torch.Tensor]:
    model = build(*CASES[case])
    embeds, positions, weight = inputs(model)
    embeds.requires_grad_()
    logits = model(inputs_embeds=embeds, position_ids=positions, use_cache=False).logits
    (logits * weight).sum().backward()
    return {"logits": logits.detach(), "embeds": embeds.grad, "weights": model.lm_head.weight.grad}


def rank(index: int, folder: str) -> None:
    """What each of the processes does, for every case."""
    from verl.models.transformers.monkey_patch import apply_monkey_patch
    from verl.utils import ulysses

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=index, world_size=RANKS)
    ulysses.set_ulysses_sequence_parallel_group(dist.group.WORLD)
    torch.set_num_threads(1)
    attention.activate(varlen.TORCH_VARLEN)
    found = {}
    for case in CASES:
        model = build(*CASES[case])
        apply_monkey_patch(model, ulysses_sp_size=RANKS, use_remove_padding=True)
        embeds, positions, weight = inputs(model)
        _, positions, pad = ulysses.ulysses_pad(positions, positions, RANKS)
        shard = [
            ulysses.slice_input_tensor(torch.nn.functional.pad(t, (0, 0, 0, pad)), dim=1) for t in (embeds, weight)
        ]
        local = shard[0].requires_grad_()
        positions = ulysses.slice_input_tensor(positions, dim=1)
        logits = model(inputs_embeds=local, position_ids=positions, use_cache=False).logits
        (logits * shard[1]).sum().backward()
        dist.all_reduce(model.lm_head.weight.grad)
        whole = [
            ulysses.gather_outputs_and_unpad(t, gather_dim=1, unpad_dim=1, padding_size=pad)
            for t in (logits.detach(), local.grad)
        ]
        found[case] = dict(zip(("logits", "embeds"), whole, strict=True), weights=model.lm_head.weight.grad)
    if index == 0:
        torch.save(found, f"{folder}/found.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ulysses")
    multiprocessing.spawn(rank, (str(folder),), nprocs=RANKS)
    return torch.load(folder / "found.pt")


@pytest.fixture
def active():
    attention.activate(varlen.TORCH_VARLEN)
    yield
    varlen.FLASH_FUNCTIONS.revert()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one(case, found, active):
    for name, theirs in alone(case).items():
        torch.testing.assert_close(found[case][name], theirs, atol=1e-10, rtol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("other", ["qwen2, window 15", "qwen2, window 17", "qwen2 hybrid"])
def test_control_another_window_differs(other, found):
    assert (found[other]["logits"] - found["qwen2"]["logits"]).abs().max() > 1e-3
