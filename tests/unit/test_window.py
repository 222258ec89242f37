# SPDX-License-Identifier: Apache-2.0
"""The definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarr_verl.window import WindowError, WindowSpec, describe, visible


@pytest.mark.parametrize("window", [0, -1, 1.5, "64", True, None])
def test_not_a_window(window):
    with pytest.raises(WindowError, match=r"swarr\.window.*whole number"):
        WindowSpec(window)


@pytest.mark.parametrize("layers", ["half", "full_every:1", "full_every:", "full_every:-2", [], [-1], [1.0], None, 4])
def test_not_a_pattern(layers):
    with pytest.raises(WindowError, match=r"swarr\.layers.*is not a pattern"):
        WindowSpec.of({"window": 8, "layers": layers})


@pytest.mark.parametrize("layers", [(3,), (0, 1, 2)])
def test_a_pattern_must_fit_the_model(layers):
    with pytest.raises(WindowError, match=r"layers 0 to 2.*at least one of them must slide"):
        WindowSpec(8, layers).windows(3)


@given(st.integers(2, 9), st.integers(1, 40))
def test_full_every_counts_from_one(every, num_layers):
    found = WindowSpec(8, f"full_every:{every}").windows(num_layers)
    assert found == [None if (i + 1) % every == 0 else 8 for i in range(num_layers)]


@given(st.integers(1, 24), st.integers(0, 24), st.one_of(st.none(), st.integers(1, 40)))
def test_visible_is_the_sentence_in_the_docstring(num_queries, older, window):
    num_keys = num_queries + older
    mask = visible(num_queries, num_keys, window)
    for i in range(num_queries):
        q = older + i
        for k in range(num_keys):
            assert mask[i, k] == (k <= q and (window is None or q - window < k))


def test_describe_runs():
    assert describe([4, 4, None, 4]) == "4 (layers 0-1), full (layer 2), 4 (layer 3)"
