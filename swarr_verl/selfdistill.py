# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl prepare selfdistill`: SFT data from the right answers of a model (rejection sampling).

k answers a problem are drawn with vLLM, under the checkpoint's own window, graded as in RL, and the usable ones become
OUT/sft.parquet. On the way every batch is appended to OUT/samples.jsonl (`swarr_verl.samples`): a run that was killed
goes on behind the last whole line there, and one that had finished only selects again.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from swarr_verl.grading_pool import WORKERS
from swarr_verl.lengths import encode, load_tokenizer, measure_with
from swarr_verl.outputs import SFT, Output
from swarr_verl.prepare import BATCH
from swarr_verl.reward import math_reward
from swarr_verl.samples import Line, Sample, SampleFile
from swarr_verl.sources import DataError, Row, rl_rows

Draw = Callable[[list[list[int]]], list[list[Sample]]]
OWN = ("model", "seed", "max_model_len", "gpu_memory_utilization", "hf_overrides", "worker_extension_cls")


def run(options: argparse.Namespace) -> int:
    """Sample what OUT/samples.jsonl lacks, then write OUT/sft.parquet, as the command line says.

    Raises:
        DataError: an option, the source or the folder does not fit; nothing was sampled.
    """
    _check_options(options)
    rows = list(rl_rows(options.source))
    if not rows:
        raise DataError(f"--from {options.source}: no row. Give the rl_train.parquet of `prepare`.")
    tokenizer = load_tokenizer(options.model, "--model")
    options.out.mkdir(parents=True, exist_ok=True)
    sft, samples = options.out / "sft.parquet", options.out / "samples.jsonl"
    if sft.exists() and not samples.exists():
        raise DataError(f"--out: {sft} is not of this command, and would be replaced. Choose another folder.")
    file = SampleFile(samples, settings(options))
    if file.problems < len(rows):
        draw = start_engine(options, options.seed + file.problems)
        sample(rows, file, tokenizer, draw, options)
    write_sft(sft, rows, file, tokenizer, options.keep)
    return 0


def _check_options(options: argparse.Namespace) -> None:
    rules = {
        "--temperature": (0 <= options.temperature < float("inf"), "a number >= 0"),
        "--top-p": (0 < options.top_p <= 1, "a share in (0, 1]"),
        "--gpu-memory-utilization": (0 < options.gpu_memory_utilization <= 1, "a share in (0, 1]"),
        "--seed": (0 <= options.seed < 2**31, "a whole number in [0, 2**31)"),
        "--samples": (options.samples == 1 or options.temperature > 0, "1: at --temperature 0 all would be the same"),
    }
    for option, (fits, meaning) in rules.items():
        if not fits:
            raise DataError(f"{option}: give {meaning}.")
    for name in OWN:
        if name in options.engine:
            raise DataError(f"--engine: {name} is not free: it is another option's, or the checkpoint's. Remove it.")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return what makes two runs draw from one distribution over one list of problems: option -> value."""
    model = Path(options.model)
    return {
        "--from": f"a file of digest {blake2b(options.source.read_bytes(), digest_size=8).hexdigest()}",
        "--model": str(model.resolve()) if model.is_dir() else options.model,
        "--samples": options.samples,
        "--temperature": options.temperature,
        "--top-p": options.top_p,
        "--response-tokens": options.response_tokens,
        "--prompt-tokens": options.prompt_tokens,
        "--seed": options.seed,
        "--engine": options.engine,
    }


def start_engine(options: argparse.Namespace, seed: int) -> Draw:
    """Start vLLM; return a function: token ids of each prompt -> samples of each, with text, tokens, finish_reason.

    Args:
        options: of the command line.
        seed: of the engine. A run that goes on must give another than the one before, whose numbers would come again;
            for the same reason no request has one: every problem would get the same numbers.

    Raises:
        DataError: vLLM is missing, or does not take the checkpoint or an argument.
    """
    try:
        from transformers import AutoConfig
        from vllm import SamplingParams

        from swarr_verl.engine import window_engine
    except ImportError as error:
        raise DataError(f"vLLM cannot be imported ({error}). See `python -m swarr_verl doctor`.") from error
    try:
        llm = window_engine(
            options.model,
            AutoConfig.from_pretrained(options.model),
            seed=seed,
            max_model_len=options.prompt_tokens + options.response_tokens,
            gpu_memory_utilization=options.gpu_memory_utilization,
            **options.engine,
        )
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"vLLM does not start with this --model, these lengths and --engine: {error}") from error
    sampling = SamplingParams(
        n=options.samples,
        temperature=options.temperature,
        top_p=options.top_p,
        max_tokens=options.response_tokens,
        skip_special_tokens=False,  # `reason` looks for them
    )

    def draw(prompts: list[list[int]]) -> list[list[Sample]]:
        outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
        return [
            [{"text": it.text, "tokens": len(it.token_ids), "finish_reason": it.finish_reason} for it in output.outputs]
            for output in outputs
        ]

    return draw


def sample(rows: list[Row], file: SampleFile, tokenizer: Any, draw: Draw, options: argparse.Namespace) -> None:
    """Draw and grade for the rows that `file` lacks, a batch at a time; prints tokens a second, grading included."""
    totals, start = Counter[str](), time.perf_counter()
    with (
        ThreadPoolExecutor(WORKERS) as graders,  # more would wait for math-verify's processes
        tqdm(total=len(rows), initial=file.problems, desc="selfdistill", unit=" problems") as bar,
    ):
        for first in range(file.problems, len(rows), options.batch):
            batch = rows[first : first + options.batch]
            prompts = encode(tokenizer, [row["prompt"] for row in batch], True)
            answers = _answers(draw, prompts, options.prompt_tokens)
            lines = list(graders.map(_line, range(first, len(rows)), batch, answers))
            file.append(lines)
            for line in lines:
                totals.update(tally(line["samples"]))
            bar.set_postfix_str(shares(totals), refresh=False)
            bar.update(len(batch))
    seconds = time.perf_counter() - start
    print(f"drawn and graded: {totals['tokens']} tokens in {seconds:.1f} s, {totals['tokens'] / seconds:.0f} a second")


def _answers(draw: Draw, prompts: list[list[int]], limit: int) -> list[list[Sample]]:
    """Samples of each prompt; none of one that is too long."""
    short = [ids for ids in prompts if len(ids) <= limit]
    drawn = iter(draw(short) if short else [])
    return [next(drawn) if len(ids) <= limit else [] for ids in prompts]


def _line(number: int, row: Row, samples: list[Sample]) -> Line:
    source, gold = row["data_source"], row["reward_model"]["ground_truth"]
    graded = []
    for one in samples:
        grade = math_reward(source, one["text"], gold)
        graded.append(one | {key: grade[key] for key in ("acc", "format", "conflict")})
    return {"row": number, "data_source": source, "ground_truth": gold, "samples": graded}


def tally(samples: list[Sample]) -> Counter[str]:
    """Return sums over samples: `samples`, `tokens`, `correct`, `cut`."""
    return Counter(
        samples=len(samples),
        tokens=sum(one["tokens"] for one in samples),
        correct=sum(one["acc"] == 1 for one in samples),
        cut=sum(one["finish_reason"] == "length" for one in samples),
    )


def shares(totals: Counter[str]) -> str:
    """Return what a tally says a sample."""
    count = max(totals["samples"], 1)
    return (
        f"{totals['correct'] / count:.1%} correct, {totals['cut'] / count:.1%} truncated, "
        f"{totals['tokens'] / count:.0f} tokens on average"
    )


def reason(one: Sample, special: set[str]) -> str | None:
    r"""Return why a sample is not learned from, or None.

    The prompt asks for the answer in a box: a right number without one, or after another answer in a box, is luck or
    bad form. A special token in the text would be one in SFT too, where it ends or begins a turn.
    """
    if one["finish_reason"] != "stop":
        return "that did not end"
    if one["acc"] != 1:
        return "wrong"
    if not one["format"]:
        return "right without a box"
    if one["conflict"]:
        return "right with boxes that differ"
    return "with special tokens" if any(token in one["text"] for token in special) else None


def usable(samples: list[Sample], special: set[str], keep: int | None, left_out: Counter[str]) -> list[str]:
    """Return the texts to learn from one problem's samples, at most `keep`; the others are counted in `left_out`.

    The first ones are kept: samples are drawn alike, while the shortest, say, would teach another distribution.
    """
    reasons = [reason(one, special) for one in samples]
    left_out.update(why for why in reasons if why)
    right = [one["text"].strip() for one, why in zip(samples, reasons, strict=True) if why is None]
    texts = list(dict.fromkeys(right))
    left_out["that repeat another"] += len(right) - len(texts)
    left_out[f"over --keep {keep}"] += len(texts) - len(texts[:keep])
    return texts[:keep]


def write_sft(path: Path, rows: list[Row], file: SampleFile, tokenizer: Any, keep: int | None) -> None:
    """Write OUT/sft.parquet, prompt and response of each usable sample, whole or not at all; prints what was drawn.

    Raises:
        DataError: no sample is usable.
    """
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    totals, pairs = Counter[str](), zip(rows, file.lines(), strict=True)
    with Output(path, SFT, measure_with(tokenizer), None) as output:
        while batch := list(islice(pairs, BATCH)):
            messages = []
            for row, line in batch:
                texts = usable(line["samples"], special, keep, output.left_out)
                messages += [[*row["prompt"], {"role": "assistant", "content": text}] for text in texts]
                totals.update(tally(line["samples"]), problems=1, used=bool(texts), long=not line["samples"])
            output.write([{"messages": conversation} for conversation in messages])
        print(
            f"{file.path}: {totals['problems']} problems, {totals['long']} of them too long (--prompt-tokens), "
            f"{totals['used']} with a sample to learn from; {totals['samples']} samples: {shares(totals)}"
        )
