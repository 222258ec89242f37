# SPDX-License-Identifier: Apache-2.0
"""Conversations in tokens, as verl makes them: encoded and counted in batches, printed as a histogram."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from swarr_verl.sources import DataError

Conversation = list[dict[str, str]]
Measure = Callable[[list[Conversation], bool], list[int]]
BINS, WIDTH = 12, 40


def load_tokenizer(path: str, option: str) -> Any:
    """Return the tokenizer that `option` of the command line names: folder or name on the hub.

    Raises:
        DataError: transformers finds none there, or it has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        encode(tokenizer, [[{"role": "user", "content": ""}]], True)  # a missing template speaks now, not in hours
    except (OSError, ValueError) as error:
        raise DataError(f"{option} {path}: {error} Give the folder of a model with a chat template.") from error
    return tokenizer


def encode(tokenizer: Any, conversations: list[Conversation], answer_follows: bool) -> list[list[int]]:
    """Return the token ids of each conversation, with what asks for an answer if one is to follow."""
    texts = tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=answer_follows)
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def measure_with(tokenizer: Any) -> Measure:
    """Return a function (conversations, whether an answer is to follow) -> tokens of each."""
    return lambda conversations, answer_follows: [len(ids) for ids in encode(tokenizer, conversations, answer_follows)]


def histogram(counts: Counter[int]) -> str:
    """Return quantiles and bars of tokens, at most twelve bins.

    >>> print(histogram(Counter({3: 1, 12: 4, 19: 2})))
    7 rows; tokens: median 12, 95 % 19, max 19
           2 to 3               1 ##########
           4 to 5               0
           6 to 7               0
           8 to 9               0
          10 to 11              0
          12 to 13              4 ########################################
          14 to 15              0
          16 to 17              0
          18 to 19              2 ####################
    """
    if not counts:
        return "0 rows"
    lengths = sorted(counts)
    reached = dict(zip(lengths, accumulate(counts[length] for length in lengths), strict=True))
    total, smallest, largest = counts.total(), lengths[0], lengths[-1]
    median, high = (next(n for n in lengths if reached[n] >= share * total) for share in (0.5, 0.95))
    widths = (step * 10**power for power in range(10) for step in (1, 2, 5))
    width = next(width for width in widths if largest // width - smallest // width < BINS)
    bins = Counter[int]()
    for length, count in counts.items():
        bins[length // width] += count
    lines = [f"{total} rows; tokens: median {median}, 95 % {high}, max {largest}"]
    for number in range(smallest // width, largest // width + 1):
        bar = "#" * round(WIDTH * bins[number] / max(bins.values()))
        span = f"{number * width:8} to {(number + 1) * width - 1}"
        lines.append(f"{span:20} {bins[number]:8} {bar}".rstrip())
    return "\n".join(lines)
