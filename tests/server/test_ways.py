"""What holds of every way to a rollout is tested over all of them; and what is not says why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.not_over_http2("it reads the tests")

HERE = Path(__file__).parent
FILES = sorted(path.name for path in HERE.glob("test_*.py"))
EVERY_WAY = re.compile(r'usefixtures\("every_way"\)|every_way: str')
OWN_HTTP2 = re.compile(r"serve_endpoint\(.*http2=True|run_endpoint\(.*http2=True|http2=asked")
MARK = re.compile(r"^(?:@|pytestmark = |    )pytest\.mark\.not_over_http2\((.*)\)", re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_server_tests_runs_over_every_way_or_says_why_not(name: str) -> None:
    text = (HERE / name).read_text()
    assert any(find.search(text) for find in (EVERY_WAY, OWN_HTTP2, MARK)), (
        'say pytest.mark.usefixtures("every_way"), or pytest.mark.not_over_http2(why)'
    )


@pytest.mark.parametrize("name", FILES)
def test_whatever_is_not_run_over_http2_says_why(name: str) -> None:
    for said in MARK.findall((HERE / name).read_text()):
        assert re.fullmatch(r'"[^"]{8,}"', said), f"{name}: {said}"
