# SPDX-License-Identifier: Apache-2.0
"""Real vLLM against transformers: a saved checkpoint, stock loaders on both sides, greedy, token for token."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from swarr_verl.families import apply_window
from swarr_verl.window import WindowSpec

pytest.importorskip("vllm", reason="vLLM is not installed")

WINDOW, NEW, PROMPTS = 16, 40, (1, 15, 16, 17, 60, 130)
GENERATE = """
import json, sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    path, prompts, new, prefix_caching = json.loads(sys.stdin.read())
    llm = LLM(path, dtype="float32", enforce_eager=True, max_model_len=256, max_num_seqs=4, block_size=16,
              max_num_batched_tokens=64, enable_prefix_caching=prefix_caching, disable_log_stats=True,
              gpu_memory_utilization=0.2)
    # No min_tokens: with it vLLM masks EOS, ignore_eos or not, and a plain argmax does not.
    sampling = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
    outs = [llm.generate([{"prompt_token_ids": p} for p in prompts], sampling, use_tqdm=False) for _ in range(2)]
    print("TOKENS" + json.dumps([[list(o.outputs[0].token_ids) for o in out] for out in outs]))
"""


def vllm_tokens(path: Path, prompts: list[list[int]], prefix_caching: bool) -> list[list[list[int]]]:
    """Greedy tokens of two passes over the prompts (the second hits the prefix cache, if any), in a process."""
    call = json.dumps([str(path), prompts, NEW, prefix_caching])
    script = path / "generate.py"  # a file: vLLM's workers import the main module again
    script.write_text(GENERATE)
    run = subprocess.run([sys.executable, script], input=call, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-8000:]
    return json.loads(run.stdout.split("TOKENS")[1].splitlines()[0])


def hf_tokens(path: Path, prompts: list[list[int]], window: int | None) -> list[list[int]]:
    """Greedy tokens of stock transformers, eager, with another window for the controls."""
    config = AutoConfig.from_pretrained(path)
    config.sliding_window = window
    if window is None and config.model_type != "mistral":
        config.layer_types = ["full_attention"] * config.num_hidden_layers
    model = AutoModelForCausalLM.from_pretrained(path, config=config, dtype=torch.float32, attn_implementation="eager")
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            for _ in range(NEW):
                ids = torch.cat([ids, model.eval()(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
        answers.append(ids[0, len(prompt) :].tolist())
    return answers


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("family", "prefix_caching"), [("qwen2", True), ("qwen3", False), ("mistral", True)])
def test_vllm_is_transformers_token_for_token(family, prefix_caching, tmp_path):
    tiny.checkpoint(tmp_path, family, layers=4)
    config = AutoConfig.from_pretrained(tmp_path)
    apply_window(config, WindowSpec(WINDOW)).save_pretrained(tmp_path)
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(3, config.vocab_size, (n,), generator=generator).tolist() for n in PROMPTS]

    first, second = vllm_tokens(tmp_path, prompts, prefix_caching)
    assert first == second
    oracle = hf_tokens(tmp_path, prompts, WINDOW)
    for length, ours, theirs in zip(PROMPTS, first, oracle, strict=True):
        assert ours == theirs, f"prompt of {length} tokens"
    for other in (WINDOW - 1, WINDOW + 1, None):  # controls: they must diverge
        assert hf_tokens(tmp_path, prompts, other) != first
