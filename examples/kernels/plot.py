# SPDX-License-Identifier: Apache-2.0
"""Tables, the cost law and a figure from what bench.py wrote: `python plot.py RESULTS.json [FIGURE.png]`."""

import json
import statistics
import sys
from pathlib import Path

FROM_TOKENS, TOLERANCE = 8192, 0.10  # where the cost law is held, and how tightly


def series(results: dict, what: str) -> dict[tuple[str, int | None], dict[int, float]]:
    """Milliseconds by tokens, of each kernel and window; cells that did not fit the memory are left out."""
    found: dict[tuple[str, int | None], dict[int, float]] = {}
    for row in results["rows"]:
        if row["what"] == what and row["ms"] is not None:
            found.setdefault((row["kernel"], row["window"]), {})[row["tokens"]] = row["ms"]
    return found


def table_lines(results: dict) -> list[str]:
    """Markdown, one table each; in brackets how many times faster than self-attention with the same kernel."""
    lengths = sorted({row["tokens"] for row in results["rows"]})
    lines = [f"{results['device']}, {results['versions']}, commit {results['commit']}, {results['date']}"]
    for what in ("step", "attention"):
        lines += [
            "",
            f"| {what}, ms | window | " + " | ".join(map(str, lengths)) + " |",
            "|---" * (len(lengths) + 2) + "|",
        ]
        found = series(results, what)
        for (kernel, window), times in found.items():
            dense = found.get((kernel, None), {})
            cells = [_cell(times.get(n), dense.get(n) if window else None) for n in lengths]
            lines.append(f"| {kernel} | {window or 'SA'} | " + " | ".join(cells) + " |")
    return lines


def _cell(ms: float | None, dense: float | None) -> str:
    return "-" if ms is None else f"{ms:.4g}" + (f" ({dense / ms:.1f}x)" if dense else "")


def fit_lines(results: dict) -> list[str]:
    """Attention under a window of W costs c * (T * W - W * W / 2): c by least squares of logarithms, and what is off.

    The growth from the shortest row to the longest stands beside: what a row costs besides its pairs lowers it.
    """
    lines = ["", f"attention = c * (T * W - W * W / 2) from {FROM_TOKENS} tokens on:"]
    for (kernel, window), times in series(results, "attention").items():
        points = [(n * window - window**2 / 2, ms) for n, ms in sorted(times.items()) if window and n >= FROM_TOKENS]
        if len(points) < 2:
            continue
        c = statistics.geometric_mean(ms / pairs for pairs, ms in points)
        worst = max(abs(ms / (c * pairs) - 1) for pairs, ms in points)
        (fewest, first), (most, last) = points[0], points[-1]
        verdict = "holds" if worst <= TOLERANCE else "DOES NOT HOLD"
        lines.append(
            f"{kernel}, W={window}: c = {c * 1e12:.4g} fs a pair of query and key, off by at most {worst:.1%}: "
            f"{verdict}; pairs grow {most / fewest:.2f}x, cost {last / first:.2f}x"
        )
    return lines


def figure(results: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    colours = {kernel: f"C{i}" for i, kernel in enumerate(dict.fromkeys(row["kernel"] for row in results["rows"]))}
    styles = dict(zip(dict.fromkeys(row["window"] for row in results["rows"]), ("-", "--", ":"), strict=False))
    fig, panels = plt.subplots(1, 2, figsize=(12, 4))
    for panel, what in zip(panels, ("step", "attention"), strict=True):
        for (kernel, window), times in series(results, what).items():
            label = f"{kernel}, {'SA' if window is None else f'W={window}'}"
            panel.plot(*zip(*sorted(times.items()), strict=True), styles[window], color=colours[kernel], label=label)
        lengths = sorted({row["tokens"] for row in results["rows"]})
        panel.set(xscale="log", yscale="log", xlabel="tokens in the row", ylabel="ms, forward + backward", title=what)
        panel.set_xticks(lengths, map(str, lengths))
        panel.yaxis.set_major_locator(LogLocator(base=2))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
    panels[1].legend(fontsize=7, bbox_to_anchor=(1.02, 1), loc="upper left")
    fig.suptitle(f"Qwen2 0.5B's shape, bf16, {results['device']}")
    fig.tight_layout()
    fig.savefig(path, dpi=150)


def main(source: str, picture: str | None = None) -> None:
    results = json.loads(Path(source).read_text())
    print("\n".join([*table_lines(results), *fit_lines(results)]))
    if picture:
        figure(results, Path(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])
