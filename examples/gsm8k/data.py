# SPDX-License-Identifier: Apache-2.0
"""GSM8K in verl's two formats: `python data.py OUT [--train FILE.jsonl --test FILE.jsonl]`.

Writes OUT/sft.parquet (`messages`: question, GSM8K's own rationale), OUT/rl_train.parquet and
OUT/rl_test.parquet (verl's RL schema). Without files the data set comes from the hub, as `openai/gsm8k`.
Each file is whole or absent.
"""

import argparse
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SOURCE = "openai/gsm8k"
INSTRUCTION = "\nLet's think step by step and output the final answer within \\boxed{}."


def split_answer(answer: str) -> tuple[str, str]:
    """GSM8K's answer as (rationale without calculator annotations, number without thousands separators)."""
    rationale, number = answer.rsplit("\n#### ", 1)
    return re.sub(r"<<[^<>]*>>", "", rationale).strip(), number.strip().replace(",", "")


def question(row: dict) -> dict:
    return {"role": "user", "content": row["question"].strip() + INSTRUCTION}


def sft_row(row: dict) -> dict:
    rationale, number = split_answer(row["answer"])
    answer = f"{rationale}\nThe answer is \\boxed{{{number}}}."
    return {"messages": [question(row), {"role": "assistant", "content": answer}]}


def rl_row(row: dict, split: str, index: int) -> dict:
    return {
        "data_source": SOURCE,
        "prompt": [question(row)],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": split_answer(row["answer"])[1]},
        "extra_info": {"index": index, "split": split},
    }


def load(train: str | None, test: str | None) -> dict[str, list[dict]]:
    if train and test:
        files = {"train": train, "test": test}
        return {
            split: [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]
            for split, file in files.items()
        }
    from datasets import load_dataset

    return {split: list(load_dataset(SOURCE, "main", split=split)) for split in ("train", "test")}


def write(rows: list[dict], path: Path) -> None:
    part = path.with_name(path.name + ".part")
    pq.write_table(pa.Table.from_pylist(rows), part)
    os.replace(part, path)
    print(f"{path}: {len(rows)} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", help="train.jsonl with `question` and `answer`")
    parser.add_argument("--test", help="test.jsonl, likewise")
    args = parser.parse_args()
    if bool(args.train) != bool(args.test):
        parser.error("give both --train and --test, or neither")
    data = load(args.train, args.test)
    args.out.mkdir(parents=True, exist_ok=True)
    write([sft_row(row) for row in data["train"]], args.out / "sft.parquet")
    for split, rows in data.items():
        write([rl_row(row, split, i) for i, row in enumerate(rows)], args.out / f"rl_{split}.parquet")


if __name__ == "__main__":
    main()
