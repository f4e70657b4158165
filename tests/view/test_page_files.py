"""The files of the page: what they may contain, and where the vendored one comes from."""

import hashlib
import re

import msgspec
import pytest

from triocept._util.secrets import MARK
from triocept._view.files import PAGE, assets, html_of, index

OWN = sorted([*PAGE.glob("*.js"), *PAGE.glob("*.css")])
VENDORED = {
    # `npm pack htm@3.1.1`, preact/standalone.umd.js: htm 3.1.1 (Apache-2.0) with preact 10 (MIT) in it
    "htm-preact.js": "62c4ffea400078c0eda7f435b22726b4961ebdf74c8506f188e92bec41d8ac51",
}


def test_vendored_files_are_those_of_npm_and_have_their_licences() -> None:
    vendor = PAGE / "vendor"
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vendor.glob("*.js")}
    assert digests == VENDORED
    assert "Apache License" in (vendor / "htm.LICENSE").read_text()
    assert "The MIT License" in (vendor / "preact.LICENSE").read_text()


def test_the_page_has_each_of_its_files_once_and_names_no_other() -> None:
    named = re.findall(r'(?:href|src)="assets/([^"]+)"', index().decode())
    assert sorted(named) == sorted(assets())


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_the_page_makes_no_html_of_text_and_runs_none(path: object) -> None:
    text = (PAGE / str(path)).read_text()
    for wrong in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
    ):
        assert wrong not in text
    assert re.findall(r"https?://(?!\{)[\w.]+", text) == []


def test_the_page_knows_the_mark_of_redacted_text() -> None:
    assert f"const MARK = {msgspec.json.encode(MARK).decode()};" in (PAGE / "text.js").read_text()


def test_the_page_stays_small() -> None:
    assert sum(path.read_text().count("\n") for path in OWN) <= 2_000


def test_the_page_as_one_file_refers_to_no_other() -> None:
    page = html_of(b"{}", "a <b> & c").decode()
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert re.findall(r'(?:href|src)="([^"]+)"', markup) == ["data:,"]
    assert "<title>a &lt;b> &amp; c</title>" in page
    assert page.index('id="triocept-data"') < page.index("htmPreact")
