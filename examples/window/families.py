# SPDX-License-Identifier: Apache-2.0
"""The table of families in README.md, from what the parity tests found.

    python -m pytest tests/parity --junitxml=parity.xml
    python examples/window/families.py parity.xml     # writes families.json and the table

A cell is the number of tests that found the side exact; "refused" stands where the plugin refuses the pattern by name.
"""

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from swarr_verl.families import FAMILIES

HERE = Path(__file__).parent
BEGIN, END = "<!-- families -->\n", "<!-- end of families -->\n"
COLUMNS = [(side, pattern) for side in ("transformers", "vLLM") for pattern in ("all", "hybrid")]


def read(report: Path) -> dict[str, int]:
    """Number of passed tests by "family/side/pattern".

    Raises:
        SystemExit: a test failed: there is no table of a fault.
    """
    passed: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        found = {p.get("name"): p.get("value") for p in case.iter("property")}
        if "family" not in found:
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            sys.exit(f"{case.get('name')} failed: no table")
        if case.find("skipped") is None:
            passed["/".join(found[key] for key in ("family", "side", "pattern"))] += 1
    return dict(sorted(passed.items()))


def table(passed: dict[str, int]) -> str:
    """One row a family."""
    lines = [
        "| family | built as | transformers: all slide | hybrid | vLLM: all slide | hybrid | a hybrid in vLLM needs |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, family in FAMILIES.items():
        cells = []
        for side, pattern in COLUMNS:
            count = passed.get(f"{name}/{side}/{pattern}", 0)
            refused = pattern == "hybrid" and not family.has_hybrids
            cells.append("refused" if refused else f"exact ({count})" if count else "not run")
        built = dict.fromkeys([family.uniform_twin or name, family.hybrid_twin or name])
        lines.append(f"| {name} | {', '.join(built)} | {' | '.join(cells)} | {needs(name)} |")
    return "\n".join(lines) + "\n"


def needs(name: str) -> str:
    """What serves a converted hybrid."""
    family = FAMILIES[name]
    if family.hybrid_vllm:
        return "this plugin and an override"
    if not family.has_hybrids:
        return "refused"
    return "this plugin" if (family.hybrid_twin or name) == "ministral" else "stock vLLM"


def write(passed: dict[str, int]) -> None:
    """Put the table into the page."""
    page = HERE / "README.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + table(passed) + END + rest.split(END)[1])


if __name__ == "__main__":
    found = read(Path(sys.argv[1]))
    (HERE / "families.json").write_text(json.dumps(found, indent=1) + "\n")
    write(found)
