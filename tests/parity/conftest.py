# SPDX-License-Identifier: Apache-2.0
"""What the parity tests tell the table in examples/window."""

import pytest


@pytest.fixture
def record(record_property):
    """Note family, side and layer pattern of a test in the junit report."""

    def note(family: str, side: str, layers: str | tuple[int, ...]) -> None:
        record_property("family", family)
        record_property("side", side)
        record_property("pattern", "all" if layers == "all" else "hybrid")

    return note
