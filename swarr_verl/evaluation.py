# SPDX-License-Identifier: Apache-2.0
"""What a validation-only run says: accuracy of k samples a problem, with standard errors over problems.

Reads the jsonl that verl (0.9.1, `trainer.validation_data_dir`) dumps, one line a sample. The samples of one problem
are not independent, so that every error here is over problems.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from swarr_verl.errors import UserError

RESAMPLES = 10_000  # of the bootstrap


class EvaluationError(UserError):
    """Files that cannot be read or compared as asked. The message says what to do."""


@dataclass(frozen=True)
class Evaluation:
    """The samples of one run.

    Args:
        name: of the run.
        problems: prompt, gold answer and a number that tells equal ones apart -> the samples, each a line of verl's
            dump (`acc`, `pred`, `output`, and, with the plugin's reward, `tokens`, `truncated` and `data_source`).
    """

    name: str
    problems: dict[tuple[str, str, int], list[dict[str, Any]]]

    @classmethod
    def read(cls, name: str, path: Path) -> Evaluation:
        """Read a dump, or the only one of a folder.

        Raises:
            EvaluationError: no dump, a line without `acc`, or problems with different numbers of samples.
        """
        files = sorted(path.glob("*.jsonl*")) if path.is_dir() else [path]
        if len(files) != 1 or not files[0].is_file():
            raise EvaluationError(
                f"{path}: give the jsonl (or jsonl.gz) of one validation, or a folder with just one of them."
            )
        rollouts: dict[str, list[dict[str, Any]]] = {}
        for number, sample in enumerate(read_lines(files[0]), 1):
            if "acc" not in sample:
                raise EvaluationError(f"{files[0]}:{number} has no `acc`: was the reward manager swarr_math?")
            rollouts.setdefault(sample["uid"].rsplit("_", 2)[0], []).append(sample)
        problems: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
        seen: Counter[tuple[str, str]] = Counter()
        for samples in rollouts.values():
            problem = samples[0]["input"], str(samples[0]["gts"])
            problems[(*problem, seen[problem])] = samples
            seen[problem] += 1
        counts = Counter(map(len, problems.values()))
        if len(counts) != 1:
            raise EvaluationError(
                f"{files[0]}: problems have {sorted(counts)} samples, where one number is wanted. Is the file whole?"
            )
        return cls(name, problems)

    def part(self, source: str) -> Evaluation:
        """The problems of one data set.

        Raises:
            EvaluationError: there are none.
        """
        found = {key: samples for key, samples in self.problems.items() if samples[0]["data_source"] == source}
        if not found:
            raise EvaluationError(f"{self.name} has no problem of {source}: compare runs of the same data sets.")
        return Evaluation(self.name, found)

    @property
    def k(self) -> int:
        """Samples a problem."""
        return len(next(iter(self.problems.values())))

    @cached_property
    def correct(self) -> np.ndarray:
        """(problems,), how many of the k samples are right."""
        return np.array([sum(sample["acc"] > 0 for sample in samples) for samples in self.problems.values()])

    def mean_at_k(self) -> np.ndarray:
        """(problems,), share of right samples."""
        return self.correct / self.k

    def pass_at(self, k: int) -> np.ndarray:
        """(problems,), chance that one of k samples is right: the unbiased estimate of arXiv 2107.03374, eq. 1."""
        return np.array([1 - comb(self.k - c, k) / comb(self.k, k) for c in self.correct.tolist()])

    def maj_at_k(self) -> np.ndarray:
        """(problems,), 1 where the answer that most samples give is right, 0 where not; of a tie, the share."""
        return np.array([_majority(samples) for samples in self.problems.values()])

    def share(self, key: str) -> float | None:
        """Mean of a per-sample value; None if the run did not say it."""
        values = [sample.get(key) for samples in self.problems.values() for sample in samples]
        return None if None in values else float(np.mean(values))


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """One object a line. Lines end at a newline alone: a text may hold what else `str.splitlines` splits at."""
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def by_source(runs: list[Evaluation]) -> dict[str, list[Evaluation]]:
    """The parts of the runs, by data set; whole, under "", if a line does not say its own.

    Raises:
        EvaluationError: a run lacks a data set of another.
    """
    said = {samples[0].get("data_source", "") for run in runs for samples in run.problems.values()}
    return {"": runs} if "" in said else {source: [run.part(source) for run in runs] for source in sorted(said)}


def merged(runs: Iterable[Evaluation]) -> Evaluation:
    """One run with the samples of all, which are of the same problems: its mean over samples is that over runs.

    Raises:
        EvaluationError: a run lacks a problem of the first.
    """
    first, *rest = runs
    for run in rest:
        if not first.problems.keys() <= run.problems.keys():
            raise EvaluationError(f"{run.name} lacks problems of {first.name}: merge runs of the same problems.")
    problems = {key: [one for run in (first, *rest) for one in run.problems[key]] for key in first.problems}
    return Evaluation(first.name, problems)


def _majority(samples: list[dict[str, Any]]) -> float:
    votes: dict[str, list[bool]] = {}
    for sample in samples:
        if sample.get("pred"):  # no answer is no vote
            votes.setdefault(sample["pred"], []).append(sample["acc"] > 0)
    most = max(map(len, votes.values()), default=0)
    return float(np.mean([any(found) for found in votes.values() if len(found) == most])) if most else 0.0


def with_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over problems, and its standard error.

    >>> with_error(np.array([0.0, 1.0, 1.0, 0.0]))
    (0.5, 0.28867513459481287)
    """
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def summary(run: Evaluation) -> dict[str, Any]:
    """One row of the table: accuracies as (mean, standard error), over problems."""
    powers = [2**i for i in range(1, run.k.bit_length()) if 2**i <= run.k]
    accuracies = {f"mean@{run.k}": run.mean_at_k()} | {f"pass@{k}": run.pass_at(k) for k in powers}
    if run.k > 1:
        accuracies[f"maj@{run.k}"] = run.maj_at_k()
    return {
        "name": run.name,
        "problems": len(run.problems),
        "k": run.k,
        "accuracy": {name: with_error(values) for name, values in accuracies.items()},
        "truncated": run.share("truncated"),
        "mean_tokens": run.share("tokens"),
    }


def paired(ours: Evaluation, theirs: Evaluation) -> np.ndarray:
    """(problems,), accuracy (mean@k) of `ours` less that of `theirs`, in the order of `ours`.

    Raises:
        EvaluationError: the two have other problems.
    """
    if ours.problems.keys() != theirs.problems.keys():
        shared = len(ours.problems.keys() & theirs.problems.keys())
        raise EvaluationError(
            f"{ours.name} has {len(ours.problems)} problems, {theirs.name} {len(theirs.problems)}, and they share "
            f"{shared}: compare runs of one data set and one prompt template."
        )
    other = dict(zip(theirs.problems, theirs.mean_at_k(), strict=True))
    return ours.mean_at_k() - np.array([other[problem] for problem in ours.problems])


def bootstrap(values: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """(resamples,), means over problems drawn with replacement; each call draws the same, so that two are paired."""
    picks = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    return values[picks].mean(axis=1)


def interval(means: np.ndarray) -> list[float]:
    """95 %, by percentiles."""
    return [float(np.percentile(means, bound)) for bound in (2.5, 97.5)]


def difference(ours: Evaluation, theirs: Evaluation, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Accuracy (mean@k) of `ours` less that of `theirs` on the same problems, by a paired bootstrap over problems.

    Returns:
        The difference, its 95 % interval (percentiles), and how many problems got better and worse.

    Raises:
        EvaluationError: the two have other problems.
    """
    gains = paired(ours, theirs)
    return {
        "ours": ours.name,
        "theirs": theirs.name,
        "difference": float(gains.mean()),
        "interval": interval(bootstrap(gains, resamples)),
        "better": int((gains > 0).sum()),
        "worse": int((gains < 0).sum()),
    }


def change(before: tuple[Evaluation, Evaluation], after: tuple[Evaluation, Evaluation]) -> dict[str, Any]:
    """How much further the first of `after` is above its second than that of `before`, paired over problems.

    Returns:
        The difference of the two differences, and its 95 % interval.

    Raises:
        EvaluationError: the runs have other problems.
    """
    (start, less), (more, least) = before, after  # all in the order of `start`
    changes = paired(start, least) - paired(start, more) - paired(start, less)
    return {"difference": float(changes.mean()), "interval": interval(bootstrap(changes))}


def closed(start: Evaluation, run: Evaluation, goal: Evaluation) -> dict[str, Any]:
    """Share of the gap between two runs that a third closes: (run - start) / (goal - start), paired over problems.

    Returns:
        The share (None where `start` is no worse), its 95 % interval over the resamples that have a gap, how many have
        none, and the `difference` that remains.

    Raises:
        EvaluationError: the runs have other problems.
    """
    gained, gap = (-paired(start, other) for other in (run, goal))  # both in the order of `start`
    gains, gaps = bootstrap(gained), bootstrap(gap)
    shares = gains[gaps > 0] / gaps[gaps > 0]
    return {
        "share": float(gained.mean() / gap.mean()) if gap.mean() > 0 else None,
        "interval": interval(shares) if len(shares) else None,
        "resamples_without_a_gap": int((gaps <= 0).sum()),
        "gap_that_remains": difference(goal, run),
    }


def points(found: dict[str, Any]) -> str:
    """What `difference` found, in percentage points, with its interval.

    >>> points({"difference": 0.089, "interval": [0.066, 0.114]})
    '+8.9 [+6.6, +11.4]'
    """
    low, high = found["interval"]
    return f"{100 * found['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def disagreements(run: Evaluation, grade: Callable[[str, str], float]) -> list[dict[str, Any]]:
    """Samples that another grader, given the text and the gold answer, judges otherwise.

    A line without a text holds that grader's verdict: `second`.
    """
    found = []
    for (_, gold, _), samples in run.problems.items():
        for sample in samples:
            other = (grade(sample["output"], gold) if "output" in sample else sample["second"]) > 0
            if other != (sample["acc"] > 0):
                found.append({"run": run.name, "gold": gold, "acc": sample["acc"], "other": float(other)} | sample)
    return found
