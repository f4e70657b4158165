"""What SDKs make of faults is what the page of the faults says, of the versions that the page is of."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from tests.real_sdks.conftest import install_javascript
from tests.real_sdks.fault_table import HERE, PAGE, Table, ask_all, changed, differing, parse

ANEW = "the page is written anew by `python -m tests.real_sdks.fault_table`"


async def test_the_table_of_the_faults_is_what_the_sdks_do(sdks_dir: Path) -> None:
    found = await trio.to_thread.run_sync(install_javascript, sdks_dir)
    if found is None:
        pytest.skip("this machine has no npm")
    node, folder = found
    table: Table = await ask_all(
        {
            "Python": [sys.executable, HERE / "fault_calls.py"],
            "JavaScript": [node, folder / "fault_calls.mjs"],
        }
    )
    page = parse(PAGE.read_text())
    assert differing(table, page) == {}, ANEW
    if others := changed(table, page):  # a new release of an SDK is no fault of a change
        pytest.skip(
            f"not compared, for the page is of other versions: {'; '.join(others)}. {ANEW.capitalize()}"
        )
