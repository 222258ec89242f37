# SPDX-License-Identifier: Apache-2.0
"""Rollout settings advised for a window: what they promise fits, and the command line says them."""

import shlex
from itertools import pairwise
from pathlib import Path

import tiny
import verl
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from trees import tree

from swarr_verl.__main__ import main
from swarr_verl.advice import BESIDE, SHARE, advise, card, graph_sizes, report
from swarr_verl.cost import MOST, Cost
from swarr_verl.families import apply_window
from swarr_verl.window import WindowSpec

GIB = 2**30


@given(
    weights=st.integers(1, 60 * GIB),
    token=st.sampled_from([512, 1024, 4096]),
    windows=st.lists(st.sampled_from([None, 1, 96, 4096]), min_size=1, max_size=40),
    length=st.integers(1, 131072),
    memory=st.integers(8, 192),
)
def test_what_is_advised_fits(weights, token, windows, length, memory):
    cost = Cost(weights, weights, 0, token, tuple(windows), 0)
    found = advise(cost, length, memory * GIB)
    usable = SHARE * memory * GIB - BESIDE - weights
    if found is None:
        assert cost.kept(length) > usable
        return
    sequences, share = found["max_num_seqs"], found["gpu_memory_utilization"]
    needed = weights + BESIDE + sequences * cost.kept(length)
    assert needed <= share * memory * GIB * (1 + 1e-9) and share <= SHARE
    assert share - 0.05 < needed / (memory * GIB), "no more than a step of 0.05 is given away"
    assert sequences == MOST or (sequences + 1) * cost.kept(length) > usable, "as many as fit"


@given(st.integers(1, 4096))
def test_a_graph_pads_little(sequences):
    sizes = graph_sizes(sequences)
    assert sizes == sorted(set(sizes)) and sizes[-1] == sequences
    assert all(after <= max(2, 1.25 * before) for before, after in pairwise(sizes) if before >= 64)
    assert len(sizes) <= 7 + 4 * 6


def test_a_window_leaves_the_memory_to_the_trainer():
    """Qwen2.5-7B's sizes, 32768 tokens: full attention takes the card for 30, a window of 96 0.35 of it for 1024."""
    dense, found = (advise(Cost(15 * GIB, 14 * GIB, 0, 2048, (w,) * 28, 0), 32768, 80 * GIB) for w in (None, 96))
    assert dense and found
    assert (dense["max_num_seqs"], dense["gpu_memory_utilization"]) == (30, 0.9)
    assert dense["cudagraph_capture_sizes"] is None, "vLLM's own do"
    assert (found["max_num_seqs"], found["gpu_memory_utilization"]) == (MOST, 0.35)


def test_inspect_and_doctor_print_it(tmp_path, capsys, monkeypatch):
    apply_window(tiny.config("qwen2"), WindowSpec(33)).save_pretrained(tmp_path)
    assert main(["inspect", str(tmp_path), "--length", "1000", "--memory", "16"]) == 0
    said = capsys.readouterr().out
    assert "On a card of 16 GiB" in said
    overrides = [line.strip() for line in said.splitlines() if line.startswith("  actor_rollout_ref.")]
    config = OmegaConf.from_dotlist(overrides).actor_rollout_ref.rollout
    assert config.max_num_seqs == MOST and config.cudagraph_capture_sizes[-1] == MOST
    known = OmegaConf.load(Path(verl.__file__).parent / "trainer" / "config" / "rollout" / "rollout.yaml")
    assert config.keys() <= known.keys()
    monkeypatch.setattr("swarr_verl.doctor.run", lambda: 0)
    assert main(["doctor", str(tmp_path), "--length", "1000", "--memory", "16"]) == 0
    assert capsys.readouterr().out == said
    monkeypatch.setattr("swarr_verl.doctor.run", lambda: 1)
    assert main(["doctor", str(tmp_path)]) == 1 and capsys.readouterr().out == ""


def test_the_second_runner_is_advised_where_it_ran():
    """By a key of verl's that Ray takes: a string, not a number."""
    (line,) = (
        line for line in report(apply_window(tiny.config("qwen2"), WindowSpec(33)), 1000, 16 * GIB) if "V2" in line
    )
    env = tree("rl", *shlex.split(line)).ray_kwargs.ray_init.runtime_env.env_vars
    assert env == {"VLLM_USE_V2_MODEL_RUNNER": "1"}
    for other in (tiny.config("qwen2"), apply_window(tiny.config("qwen2"), WindowSpec(33, (0,)))):
        assert not any("V2" in line for line in report(other, 1000, 16 * GIB))


def test_too_large_for_the_card(tmp_path, capsys):
    apply_window(tiny.config("qwen2"), WindowSpec(33)).save_pretrained(tmp_path)
    assert main(["inspect", str(tmp_path), "--memory", "4"]) == 0
    assert "0 sequences" in (said := capsys.readouterr().out) and "tensor_model_parallel_size" in said


def test_without_a_gpu_a_card_of_80(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert card() == 80 * GIB
