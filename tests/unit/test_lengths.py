# SPDX-License-Identifier: Apache-2.0
"""The histogram of token lengths."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from swarr_verl.lengths import histogram


@given(st.dictionaries(st.integers(0, 10**6), st.integers(1, 1000), min_size=1))
def test_histogram_counts_every_row_once(counts):
    head, *bars = histogram(Counter(counts)).splitlines()
    assert head.startswith(f"{sum(counts.values())} rows") and head.endswith(f"max {max(counts)}")
    assert sum(int(line.split()[3]) for line in bars) == sum(counts.values())
    assert len(bars) <= 12
