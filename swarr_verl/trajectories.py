# SPDX-License-Identifier: Apache-2.0
"""Prompts with a response each, from the files that this package and verl leave: what `mismatch` measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

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
        ended: it is known to have ended by itself, so that the end of the turn is a token of it.
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


def by_input(files: list[Path], tokenizer: PreTrainedTokenizerBase) -> dict[str, Conversation]:
    """Prompts of files in verl's RL schema, by the `input` of the lines that answer them.

    That is their `digest`, or their text without special tokens, as verl dumps it (0.9.1, trainer/ppo/v1). The
    tokenizer is that of the model that answered.
    """
    found: dict[str, Conversation] = {}
    for prompt in (row["prompt"] for file in files for row in pq.read_table(file, columns=["prompt"]).to_pylist()):
        text = prompt_text(tokenizer, prompt)
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        found |= dict.fromkeys((digest(text), tokenizer.decode(tokens, skip_special_tokens=True)), prompt)
    return found


def read(file: Path, prompts: dict[str, Conversation]) -> Iterator[Trajectory]:
    """Trajectories of a file, in its order.

    Args:
        file: SFT parquet (column `messages`), or generations (.jsonl, .jsonl.gz): of examples/gsm8k/evaluate.py, or
            what verl dumps to `trainer.rollout_data_dir` (which does not say what ended) or `validation_data_dir`.
        prompts: of generations (`by_input`).

    Raises:
        DataError: a parquet of another kind, or a prompt that no problem has.
    """
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        if "messages" not in table.column_names:
            raise DataError(f"{file} has no column `messages`. Give SFT parquet, as `prepare` makes it.")
        for messages in table["messages"].to_pylist():
            yield Trajectory(messages[:-1], messages[-1]["content"], ended=True, correct=None)
        return
    for number, line in enumerate(read_lines(file), 1):
        prompt = prompts.get(line.get("input", ""))
        if prompt is None:
            raise DataError(
                f"{file}:{number}: no file of --problems has its prompt. Give the parquet that was evaluated, and the "
                "tokenizer of its model."
            )
        correct = line["acc"] if "acc" in line else line["score"]
        yield Trajectory(prompt, line["output"], ended=not line.get("truncated", True), correct=correct)
