# SPDX-License-Identifier: Apache-2.0
"""examples/kernels/update.py with a tiny model: both settings of a list, on a CPU."""

import ast

import pytest
import runs
from scripts import EXAMPLES, load

pytestmark = pytest.mark.timeout(300)
SMALL = ["rows=8", "minibatches=2", "prompt=12", "response=12", "tokens=64", "window=16", "repeats=2"]


def test_two_settings(checkpoint, tmp_path):
    command = [
        str(EXAMPLES / "kernels/update.py"),
        str(checkpoint),
        *SMALL,
        "bounds=false,true",
        "columns=2",
        "emptied=true",
        "expandable=true",
    ]
    run = runs.run(tmp_path, "update", [*command, "attention=torch_varlen"])
    assert run.code == 0, run.output[-3000:]
    lines = [line for line in run.output.splitlines() if line.startswith("{'window'")]
    settings, times = zip(*(line.split(" | ") for line in lines), strict=True)
    assert [ast.literal_eval(one)["bounds"] for one in settings] == [False, True]
    assert all(one.startswith("old_log_prob ") and "; update " in one and " GiB reserved" in one for one in times)


def test_an_unknown_key_is_named():
    with pytest.raises(SystemExit, match="windows: not one of window"):
        load("kernels/update.py").parsed(["windows=3"])
