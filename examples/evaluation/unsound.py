# SPDX-License-Identifier: Apache-2.0
"""Where in the order of the problems the runs in results/unsound went wrong, and one that did not: a line for each 50.

    python examples/evaluation/unsound.py gsm8k/test.jsonl math500.jsonl > results/unsound/episodes.txt

The two files are what run.sh read (`DATA`), in its order. Greedy W512 beside SA: responses with other than ASCII
letters, and those whose first 120 characters are SA's. Sampled runs: responses of under 40 tokens, per cent; the last
three are of other days, W256 as before, W512 and W256 with the mended backend (swarr_verl/vllm_flash.py).
"""

import gzip
import json
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
STEP = 50


def read(name: str) -> list[dict]:
    with gzip.open(RESULTS / f"{name}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def main() -> None:
    texts = []
    for file in sys.argv[1:]:
        for line in Path(file).read_text().splitlines():
            row = json.loads(line)
            texts.append((row.get("question") or row["problem"]).strip())
    full = {row["uid"].split("_")[0]: row for row in read("greedy/SA")}  # a problem has one number in every run
    place = {n: next(i for i, text in enumerate(texts) if text in row["input"]) for n, row in full.items()}
    columns: dict[str, list[list[float]]] = {}

    def count(column: str, number: str, value: float) -> None:
        bins = columns.setdefault(column, [[] for _ in range(-(-len(texts) // STEP))])
        bins[place[number] // STEP].append(value)

    def as_full(row: dict) -> bool:
        return row["output"][:120] == full[row["uid"].split("_")[0]]["output"][:120]

    for row in read("unsound/greedy_W512"):
        number = row["uid"].split("_")[0]
        count("greedy W512, not ASCII", number, not row["output"].isascii())
        count("greedy W512, starts as SA", number, as_full(row))
    first = {f"sampled {name}": f"unsound/sampled_{name}" for name in ("SA", "W512", "W256", "W64")}
    again = {"W256 again": "unsound/sampled_W256_again"}
    mended = {f"{name} mended": f"sampled/{name}" for name in ("W512", "W256")}
    for title, name in (first | again | mended).items():
        for row in read(name):
            count(f"{title}, short", row["uid"].split("_")[0], row["tokens"] < 40)
    for name in ("greedy/SA", "greedy/W512", "greedy/W256", "greedy/W128", "greedy/W64", "unsound/greedy_W512"):
        rows = read(name)
        alike = sum(as_full(row) for row in rows) / len(rows)
        print(f"{name}: not ASCII {sum(not row['output'].isascii() for row in rows)} of {len(rows)}, as SA {alike:.0%}")
    print("first problem", *columns, sep=" | ")
    for index in range(-(-len(texts) // STEP)):
        print(index * STEP, *(f"{100 * sum(b[index]) / len(b[index]):.0f} %" for b in columns.values()), sep=" | ")


if __name__ == "__main__":
    main()
