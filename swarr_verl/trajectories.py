# SPDX-License-Identifier: Apache-2.0
"""Prompts with a response each, from the files that this package and verl leave: what `mismatch` measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from swarr_verl.evaluation import read_lines
from swarr_verl.sources import DataError

Conversation = list[dict[str, str]]


@dataclass(frozen=True)
class Trajectory:
    """One response.

    Args:
        prompt: what it answers.
        response: its text.
        ended: it ended by itself, so that the end of the turn is a token of it.
        correct: as it was graded; None of SFT data.
    """

    prompt: Conversation
    response: str
    ended: bool
    correct: float | None

    def tokens(self, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
        """Prompt and response as RL has them: tokenised apart, the prompt by the chat template."""
        asked = prompt_text(tokenizer, self.prompt)
        prompt, response = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, self.response))
        return prompt, response + [tokenizer.eos_token_id] * self.ended


def prompt_text(tokenizer: PreTrainedTokenizerBase, prompt: Conversation) -> str:
    """The text that the model is asked to go on with."""
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str)
    return text


def digest(text: str) -> str:
    """Short name of a prompt's text, by which examples/gsm8k/evaluate.py says which problem a line answers."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


def read(file: Path, problems: list[Path], tokenizer: PreTrainedTokenizerBase) -> Iterator[Trajectory]:
    """Trajectories of a file, in its order.

    Args:
        file: SFT parquet (column `messages`), or generations (.jsonl, .jsonl.gz) of examples/gsm8k/evaluate.py.
        problems: parquet in verl's RL schema with the prompts of generations.
        tokenizer: that of the generations' model.

    Raises:
        DataError: a file of neither kind, or a prompt that no problem has.
    """
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        if "messages" not in table.column_names:
            raise DataError(f"{file} has no column `messages`. Give SFT parquet, as `prepare` makes it.")
        for messages in table["messages"].to_pylist():
            yield Trajectory(messages[:-1], messages[-1]["content"], ended=True, correct=None)
        return
    prompts = {digest(prompt_text(tokenizer, prompt)): prompt for prompt in map(_prompt, _rows(problems))}
    for number, line in enumerate(read_lines(file), 1):
        prompt = prompts.get(line.get("input", ""))
        if prompt is None:
            raise DataError(
                f"{file}:{number}: no file of --problems has its prompt. Give the parquet that was evaluated, and the "
                "tokenizer of its model."
            )
        yield Trajectory(prompt, line["output"], ended=not line["truncated"], correct=line["acc"])


def _rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        yield from pq.read_table(file).to_pylist()


def _prompt(row: dict[str, Any]) -> Conversation:
    return row["prompt"]
