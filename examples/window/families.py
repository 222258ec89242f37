# SPDX-License-Identifier: Apache-2.0
"""The table of families in README.md, from what the parity tests found.

    python -m pytest tests/parity --junitxml=parity.xml
    python examples/window/families.py parity.xml results/vllm_*.xml     # writes families.json and the table

The first report is of a CPU; the others are of GPUs, where tests/parity/test_vllm.py alone was run.

A cell is the number of tests that found the side exact; "refused" stands where the plugin refuses the pattern by name.
"""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from swarr_verl.families import FAMILIES

HERE = Path(__file__).parent
BEGIN, END = "<!-- families -->\n", "<!-- end of families -->\n"
ON_GPU = "vLLM on a GPU"
COLUMNS = [(side, pattern) for side in ("transformers", "vLLM", ON_GPU) for pattern in ("all", "hybrid")]


def read(reports: list[Path]) -> dict[str, int]:
    """Number of passed tests by "family/side/pattern".

    Raises:
        SystemExit: a test failed: there is no table of a fault.
    """
    passed: dict[str, set[str]] = {}
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            found = {p.get("name"): p.get("value") for p in case.iter("property")}
            if "family" not in found:
                continue
            if case.find("failure") is not None or case.find("error") is not None:
                sys.exit(f"{report}: {case.get('name')} failed: no table")
            side = found["side"] if report == reports[0] else ON_GPU
            if case.find("skipped") is None:  # a test that ran on two GPUs counts once
                passed.setdefault(f"{found['family']}/{side}/{found['pattern']}", set()).add(case.get("name"))
    return {key: len(names) for key, names in sorted(passed.items())}


def table(passed: dict[str, int]) -> str:
    """One row a family."""
    lines = [
        "| family | built as | transformers: all slide | hybrid | vLLM, CPU: all slide | hybrid | vLLM, GPU: all slide "
        "| hybrid | a hybrid in vLLM needs |",
        "|---" * 9 + "|",
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
    found = read([Path(report) for report in sys.argv[1:]])
    (HERE / "families.json").write_text(json.dumps(found, indent=1) + "\n")
    write(found)
