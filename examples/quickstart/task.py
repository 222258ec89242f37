# SPDX-License-Identifier: Apache-2.0
r"""A toy task that a sliding window breaks, SFT half repairs and RL repairs: its data, tokenizer and model.

The problem is "add a4 b1 c0 d3 e2 f2": the sum of six digits modulo 5. There are two ways to write it out,
both right, and of 56 and 53 tokens:

- *recall*: `recall a : 0 + a4 = 4 ; recall b : 4 + b1 = 0 ; ... \boxed{2}`. Every step goes back to the prompt.
  The places that need the six items stand 12, 20, 28, 36, 44 and 52 tokens after them.
- *carry*: `0 + a4 = 4 left b1 c0 d3 e2 f2 4 + b1 = 0 left c0 d3 e2 f2 ... \boxed{2}`. Every step restates the
  items that are left. Nothing that is needed is more than 12 tokens away, the prompt included.

A window of 14 sees 13 tokens back, and two layers relay 26 at most. So under the window the carry style can
be followed exactly and the recall style cannot: four of its six items are out of reach, and its answer is a
guess, right one time in five. Full attention has no trouble with either.

All training data mix the styles: recall with probability 0.7 if the first digit is even and 0.3 if it is odd
(0.54 overall), so that greedy decoding mixes them too. SFT under the window copies the mixture, whatever the
window can serve: however long it trains, it can expect 0.46 + 0.54 / 5 = 0.57 sampled and 2/5 + 3/5 / 5 =
0.52 greedy. RL under the window may change the mixture. This is a controlled toy, built so that the mechanism
must show: it is no evidence about real models.

    python task.py OUT --seed 0
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

WINDOW = 14
NAMES = "abcdef"
MODULUS = 5
RECALL_IF_EVEN, RECALL_IF_ODD = 0.7, 0.3

# Problems drawn for each stage: steps x batch size of run.sh, one epoch each.
PROBLEMS = {"pretrain": 600 * 32, "sft": 300 * 32, "rl_train": 24 * 16}

# verl's agent loop wants these two of every Qwen tokenizer (0.9.1, utils/tokenizer/continuous_token.py:556).
END, NEWLINE = "<|im_end|>", "\n"
PAD, UNK, USER, ASSISTANT = "<|pad|>", "<|unk|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def question(digits: tuple[int, ...]) -> str:
    """Write the prompt, with the data at its end."""
    return " ".join(["add", *items(digits)])


def items(digits: tuple[int, ...], start: int = 0) -> list[str]:
    """Name the digits from position `start` on: one word, and one token, each."""
    return [f"{name}{digit}" for name, digit in zip(NAMES[start:], digits[start:], strict=True)]


def answer(digits: tuple[int, ...]) -> int:
    """Sum the digits modulo `MODULUS`."""
    return sum(digits) % MODULUS


def recall_solution(digits: tuple[int, ...]) -> str:
    """Solve by going back to the prompt at every step."""
    words, total = [], 0
    for name, item in zip(NAMES, items(digits), strict=True):
        before, total = total, (total + int(item[1:])) % MODULUS
        words += ["recall", name, ":", str(before), "+", item, "=", str(total), ";"]
    return " ".join([*words, boxed(total)])


def carry_solution(digits: tuple[int, ...]) -> str:
    """Solve by restating after every step the items that are left."""
    words, total = [], 0
    for i, item in enumerate(items(digits)):
        before, total = total, (total + digits[i]) % MODULUS
        words += [str(before), "+", item, "=", str(total), "left", *items(digits, i + 1)]
    return " ".join([*words, boxed(total)])


def boxed(total: int) -> str:
    r"""Write the final answer: one word, one token."""
    return f"\\boxed{{{total}}}"


def style(response: str) -> str:
    """Tell a response's style, which its first word decides."""
    first = next(iter(response.split()), "")
    return {"recall": "recall", "0": "carry"}.get(first, "other")


def mixed_solution(digits: tuple[int, ...], rng: random.Random) -> str:
    """Solve in one style or the other, as the training data do."""
    p_recall = RECALL_IF_ODD if digits[0] % 2 else RECALL_IF_EVEN
    return (recall_solution if rng.random() < p_recall else carry_solution)(digits)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a word-level tokenizer: every word of the task is one token, and nothing merges across turns."""
    digits = [str(d) for d in range(MODULUS)]
    words = [PAD, UNK, USER, ASSISTANT, END, NEWLINE, "add", "recall", ":", "+", "=", ";", "left"]
    words += [*NAMES, *digits, *(n + d for n in NAMES for d in digits), *(boxed(int(d)) for d in digits)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNK))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNK,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, NEWLINE],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """Build a two-layer Qwen3 with full attention and random weights (0.34 M parameters).

    Not a Qwen2: for that model type, transformers' AutoTokenizer replaces any saved tokenizer by Qwen2's own.
    """
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,  # the smallest that vLLM serves on a CPU
        max_position_embeddings=512,
        initializer_range=0.06,
        tie_word_embeddings=False,
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config).to(torch.float32)
    model.generation_config.do_sample = False
    return model


def draw(n: int, rng: random.Random, exclude: set[tuple[int, ...]] = frozenset()) -> list[tuple[int, ...]]:
    """Draw `n` problems (of 5 ** 6), none of them in `exclude`."""
    problems = []
    while len(problems) < n:
        digits = tuple(rng.randrange(MODULUS) for _ in NAMES)
        if digits not in exclude:
            problems.append(digits)
    return problems


def sft_row(digits: tuple[int, ...], rng: random.Random) -> dict:
    """Make a row for verl's SFT trainer."""
    return {
        "messages": [
            {"role": "user", "content": question(digits)},
            {"role": "assistant", "content": mixed_solution(digits, rng)},
        ]
    }


def rl_row(digits: tuple[int, ...], index: int, split: str) -> dict:
    """Make a row for verl's PPO trainer."""
    return {
        "data_source": "swarr/quickstart",
        "prompt": [{"role": "user", "content": question(digits)}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(answer(digits))},
        "extra_info": {"index": index, "split": split},
    }


def write(out: Path, seed: int, n_test: int = 512) -> None:
    """Write the model, the tokenizer and the four data files to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    build_model(tokenizer, seed).save_pretrained(out / "model_init")
    tokenizer.save_pretrained(out / "model_init")

    rng = random.Random(seed)
    test = list(dict.fromkeys(draw(2 * n_test, rng)))[:n_test]
    held_out = set(test)
    for name in ("pretrain", "sft"):
        problems = draw(PROBLEMS[name], rng, held_out)
        rows = [sft_row(digits, rng) for digits in problems]
        pd.DataFrame(rows).to_parquet(out / f"{name}.parquet")
    train = draw(PROBLEMS["rl_train"], rng, held_out)
    for split, problems in (("train", train), ("test", test)):
        rows = [rl_row(digits, i, split) for i, digits in enumerate(problems)]
        pd.DataFrame(rows).to_parquet(out / f"rl_{split}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the quickstart's model and data.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write(args.out, args.seed)


if __name__ == "__main__":
    main()
