# SPDX-License-Identifier: Apache-2.0
"""The tables, the cost law and the figure of examples/kernels/plot.py."""

import pytest
from scripts import load


@pytest.fixture
def plot():
    return load("kernels/plot.py")


def results(window_ms) -> dict:
    """The attention of one kernel, by a law; and a step that did not fit the memory."""
    lengths = (4096, 8192, 16384, 32768)
    rows = [{"window": None, "tokens": n, "what": "attention", "ms": 1e-8 * n * n} for n in lengths]
    rows += [{"window": 512, "tokens": n, "what": "attention", "ms": window_ms(n)} for n in lengths]
    rows += [{"window": None, "tokens": 32768, "what": "step", "ms": None}]
    head = {"device": "none", "versions": {}, "commit": "0", "date": "today"}
    return {**head, "rows": [{"kernel": "any", **row} for row in rows]}


def test_the_law_is_seen_to_hold_and_to_fail(plot):
    holds = results(lambda n: 2e-8 * (n * 512 - 512**2 / 2))
    assert plot.fit_lines(holds)[2:] == [
        "any, W=512: c = 2e+04 fs a pair of query and key, off by at most 0.0%: holds; pairs grow 4.10x, cost 4.10x"
    ]
    for law in (lambda n: 1e-8 * n * n, lambda n: 0.02):  # no window; all overhead
        assert plot.fit_lines(results(law))[2].count("DOES NOT HOLD") == 1


def test_table_and_figure(plot, tmp_path):
    pytest.importorskip("matplotlib")
    measured = results(lambda n: 0.1)
    table = "\n".join(plot.table_lines(measured))
    assert "| any | SA | 0.1678 | 0.6711 | 2.684 | 10.74 |" in table
    assert "| any | 512 | 0.1 (1.7x) | 0.1 (6.7x) | 0.1 (26.8x) | 0.1 (107.4x) |" in table
    plot.figure(measured, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
