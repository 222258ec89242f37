# SPDX-License-Identifier: Apache-2.0
"""What is kept of a validation: `python pack.py RUN/0.jsonl OUT.jsonl.gz`, one line a sample, for `report` to read.

The problems in one order, whatever the run; of each sample the answer, both graders' verdicts, the length. Prompt and
response stay where there is one sample a problem (greedy); elsewhere a digest stands for the prompt.
"""

import gzip
import json
import sys
from hashlib import blake2b
from pathlib import Path

from verl.utils.reward_score import math_reward

from swarr_verl.evaluation import Evaluation
from swarr_verl.files import write_whole

KEPT = ["data_source", "input", "gts", "pred", "acc", "tokens", "truncated", "path"]


def main(source: Path, target: Path) -> None:
    run = Evaluation.read(source.stem, source)
    problems = sorted(run.problems.items(), key=lambda item: (item[1][0]["data_source"], item[0]))
    lines = []
    for number, ((_, gold, _), samples) in enumerate(problems):
        for index, sample in enumerate(samples):
            line = {"uid": f"{number}_{index}_0"} | {key: sample[key] for key in KEPT}
            line["second"] = math_reward.compute_score(sample["output"], gold)
            if run.k == 1:
                line["output"] = sample["output"]
            else:
                line["input"] = blake2b(sample["input"].encode(), digest_size=8).hexdigest()
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_whole(target, gzip.compress("".join(lines).encode(), mtime=0))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
