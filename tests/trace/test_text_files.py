"""The text of a file that is sent inline, in each spelling that clients use."""

from base64 import b64encode, encodebytes, urlsafe_b64encode

import pytest

from triocept._canonical.text_file import text_in_file

TEXT = "TOKEN=ghp_x?>~ÿ and a line that is long enough to be wrapped by encodebytes, at 76 characters\n"
DATA = TEXT.encode()


@pytest.mark.parametrize("media_type", ["text/plain", "TEXT/PLAIN", "Text/Markdown; charset=utf-8"])
@pytest.mark.parametrize("data", [
    b64encode(DATA).decode(),
    encodebytes(DATA).decode(),
    urlsafe_b64encode(DATA).decode(),
    b64encode(DATA).decode().rstrip("="),
], ids=["plain", "wrapped", "URL-safe", "unpadded"])  # fmt: skip
def test_the_text_of_an_inline_file_is_found_in_each_spelling_of_base64(media_type: str, data: str) -> None:
    assert text_in_file("file", media_type, data) == TEXT


@pytest.mark.parametrize("data", ["a", "%%%", b64encode(b"\xff\xfe").decode()])
def test_data_that_is_no_text_has_none(data: str) -> None:
    assert text_in_file("file", "text/plain", data) is None
