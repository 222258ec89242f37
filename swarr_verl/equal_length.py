# SPDX-License-Identifier: Apache-2.0
"""Need of two groups of responses at equal length: between tokens with about as much context before them.

A later token has more context that a window hides, so that long responses need more, whatever they say. Tokens are put
into bins by the context before them, prompt and response. Of each bin the mean need of both groups is taken, and it
weighs as many tokens as the group that has fewer there: what one group alone reaches is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from swarr_verl.evaluation import interval

BIN = 16  # tokens of context
RESAMPLES = 2000  # of the bootstrap


def compare(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]], resamples: int = RESAMPLES
) -> dict[str, Any] | None:
    """Need of both groups over the same bins of context.

    The interval, of 95 %, is of a bootstrap over problems, each with all that both groups answered to it: the same
    problems are paired.

    Args:
        ours: lines of mismatch.jsonl (`problem`, `prompt` in tokens, `need` of each token), each with a response.
        theirs: likewise.
        resamples: draws of the bootstrap.

    Returns:
        `tokens`, the fewer of each bin, summed; `need` of ours, that of the `others`, and the `difference` with its
        interval, nats a token. None where no bin has tokens of both.
    """
    problems = sorted({line["problem"] for line in ours + theirs})
    bins = 1 + max((line["prompt"] + len(line["need"])) // BIN for line in ours + theirs)
    sides = [_by_bin(lines, problems, bins) for lines in (ours, theirs)]
    tokens, need, others = (float(found[0]) for found in _means(np.ones((1, len(problems))), sides))
    if tokens == 0:
        return None
    draws = np.random.default_rng(0).multinomial(len(problems), [1 / len(problems)] * len(problems), size=resamples)
    shared, *drawn = _means(draws, sides)
    differences = (drawn[0] - drawn[1])[shared > 0]
    difference = [need - others, *interval(differences)]
    return {"tokens": int(tokens), "need": need, "others": others, "difference": difference}


def of_shared_problems(*groups: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Of each group the lines whose problem all groups have."""
    shared = set.intersection(*({line["problem"] for line in lines} for lines in groups))
    return [[line for line in lines if line["problem"] in shared] for lines in groups]


def _by_bin(lines: list[dict[str, Any]], problems: list[str], bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Need and tokens, (problems, bins) each."""
    rows = {problem: row for row, problem in enumerate(problems)}
    needs, counts = np.zeros((2, len(problems), bins))
    for line in lines:
        places = (line["prompt"] + np.arange(len(line["need"]))) // BIN
        needs[rows[line["problem"]]] += np.bincount(places, line["need"], bins)
        counts[rows[line["problem"]]] += np.bincount(places, minlength=bins)
    return needs, counts


def _means(draws: np.ndarray, sides: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """Of draws, (draws, problems): tokens that both sides have, and the mean need of either; (draws,) each."""
    summed = [(draws @ needs, draws @ counts) for needs, counts in sides]  # (draws, bins)
    weights = np.minimum(*(counts for _, counts in summed))
    tokens = weights.sum(axis=1)
    means = [(weights * needs / counts.clip(min=1)).sum(axis=1) / tokens.clip(min=1) for needs, counts in summed]
    return [tokens, *means]
