# SPDX-License-Identifier: Apache-2.0
"""Tiny random models, tokenizer and data, made on the spot: the tests need no download."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EXTRA = {  # what a family needs beside the common keys; dense, whatever its default
    "qwen3": dict(head_dim=32),
    "qwen3_moe": dict(head_dim=32, moe_intermediate_size=64, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True),
    "mistral": dict(sliding_window=None),
    "ministral": dict(sliding_window=2048, layer_types=["full_attention"], head_dim=32),
    "olmo3": dict(sliding_window=2048, layer_types=["full_attention"]),
    "phi3": dict(original_max_position_embeddings=2048),
}


def config(family: str, vocab_size: int = 128, layers: int = 3, **extra):
    """A dense config of the family, 128 wide; heads of 32, the smallest that vLLM's CPU kernel takes."""
    keys = dict(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
        architectures=[MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[family]],
    )
    keys |= EXTRA.get(family, {})
    if "layer_types" in keys:
        keys["layer_types"] = keys["layer_types"] * layers
    return AutoConfig.for_model(family, **{**keys, **extra})


def model(hf_config, attn: str = "eager", dtype: torch.dtype = torch.float64, seed: int = 0):
    """A model with weights so large that attention matters and logits do not tie."""
    torch.manual_seed(seed)
    kernels = dict(attn_implementation=attn, experts_implementation="eager")  # the grouped one has no fp64
    built = AutoModelForCausalLM.from_config(hf_config, **kernels, dtype=torch.float32)
    with torch.no_grad():
        for name, p in built.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 1.0 if "embed" in name else 0.12)
    return built.to(dtype).eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special)
    tok.train_from_iterator(
        [f"What is {a} plus {b}? \\boxed{{{a + b}}}" for a in range(30) for b in range(30)], trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def checkpoint(folder: Path, family: str = "qwen2", **extra) -> Path:
    """A dense fp32 checkpoint with its tokenizer; vocabulary == len(tokenizer), as vLLM needs on a CPU."""
    tok = tokenizer()
    hf_config = config(
        family, vocab_size=len(tok), eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, **extra
    )
    model(hf_config, dtype=torch.float32).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def data(folder: Path) -> Path:
    """SFT and RL parquet files in verl's columns: sft, rl_train, rl_val."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(x, y) for x in range(8) for y in range(8)]
    user = [{"role": "user", "content": f"What is {x} plus {y}?"} for x, y in pairs]
    answer = [{"role": "assistant", "content": f"It is \\boxed{{{x + y}}}"} for x, y in pairs]
    sft = pd.DataFrame({"messages": [[u, a] for u, a in zip(user, answer, strict=True)]})
    rl = pd.DataFrame(
        {
            "data_source": "swarr/test",
            "prompt": [[u] for u in user],
            "ability": "math",
            "reward_model": [{"style": "rule", "ground_truth": str(x + y)} for x, y in pairs],
            "extra_info": [{"index": i, "split": "train"} for i in range(len(pairs))],
        }
    )
    sft.to_parquet(folder / "sft.parquet")
    rl.to_parquet(folder / "rl_train.parquet")
    rl[:8].to_parquet(folder / "rl_val.parquet")
    return folder
