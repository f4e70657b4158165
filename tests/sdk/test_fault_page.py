"""The page of what SDKs make of faults: it is in step with what makes it, and, where the SDKs here are those of the
page, with what they do."""

import sys

import pytest

from tests.real_sdks.fault_table import (
    COLUMNS,
    FAULTS,
    FORMS,
    HERE,
    PAGE,
    ask_all,
    changed,
    differing,
    name_of,
    parse,
    render,
)
from triocept.handlers.faults import MAKERS


def test_the_page_is_as_its_table_is_rendered_and_has_every_fault() -> None:
    table = parse(PAGE.read_text())
    assert render(table) == PAGE.read_text()
    names = [name_of(fault) for fault in FAULTS]
    assert set(table.cells) == {
        (form, name, column) for form in FORMS for name in names for column in COLUMNS
    }
    assert {fault.name for fault in FAULTS} == set(MAKERS)


@pytest.mark.once
@pytest.mark.timeout(280)  # the programs have 240 seconds
async def test_what_pythons_sdks_make_of_the_faults_is_what_the_page_says() -> None:
    page = parse(PAGE.read_text())
    table = await ask_all({"Python": [sys.executable, HERE / "fault_calls.py"]})
    assert differing(table, page) == {}
    if others := changed(table, page):
        pytest.skip(f"not compared, for the page is of other versions: {'; '.join(others)}")
