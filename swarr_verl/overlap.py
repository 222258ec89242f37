# SPDX-License-Identifier: Apache-2.0
"""Problems of a training set that a test set states too: the same text, or the same thirteen words in a row.

Thirteen words are what GPT-3 (arXiv 2005.14165, appendix C) and most since counted as contamination. Formulae count by
their letters and digits only: row 7163 of MATH's training set and row 46 of MATH-500 share every word, and differ in a
sign. So look before you drop.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from typing import NamedTuple

NGRAM = 13
_WORD = re.compile(r"[^\W_]+")


class Hit(NamedTuple):
    """A test problem that a text overlaps with: its file, its row there, how, and the text in common."""

    file: str
    row: int
    kind: str  # "exact" or "13-gram"
    shared: str


def normalize(text: str) -> str:
    r"""Return one spelling for texts that differ in case, Unicode form or white space only.

    >>> normalize("What  is\n$X$?")
    'what is $x$?'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    r"""Return the words and numbers of a normalised text.

    >>> words(r"\frac{1}{2} of 30 eggs.")
    ['frac', '1', '2', 'of', '30', 'eggs']
    """
    return _WORD.findall(normalize(text))


def ngrams(text: str, n: int) -> list[str]:
    """Return each run of n words of a text; none if it has fewer."""
    found = words(text)
    return [" ".join(found[start : start + n]) for start in range(len(found) - n + 1)]


class ProblemIndex:
    """The problems of test sets, to be looked up by text.

    Args:
        n: words in a row that make an overlap.
    """

    def __init__(self, n: int = NGRAM) -> None:
        self.n = n
        self.short = 0  # problems with fewer words: these can be found as exact copies only
        self._texts: dict[str, list[tuple[str, int]]] = defaultdict(list)
        self._ngrams: dict[str, set[tuple[str, int]]] = defaultdict(set)

    def __len__(self) -> int:
        return sum(map(len, self._texts.values()))

    def add(self, file: str, row: int, text: str) -> None:
        """Add one problem of a test set."""
        self._texts[normalize(text)].append((file, row))
        found = ngrams(text, self.n)
        self.short += not found
        for ngram in found:
            self._ngrams[ngram].add((file, row))

    def find(self, text: str) -> list[Hit]:
        """Return one Hit for each test problem that the text overlaps with; `exact` where it is both."""
        hits = {place: Hit(*place, "exact", text.strip()) for place in self._texts.get(normalize(text), [])}
        for ngram in ngrams(text, self.n):
            for place in self._ngrams.get(ngram, ()):
                hits.setdefault(place, Hit(*place, f"{self.n}-gram", ngram))
        return sorted(hits.values())
