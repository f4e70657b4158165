"""Keys in a text that comes in pieces."""

from __future__ import annotations

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from triocept._util.secrets import LIVE_KEYS, KeylessPieces, without_keys

OWN = "sk-triocept-" + "Ab_-9" * 8
KEYS = st.from_regex(r'[ab]{8,12}|[ab]["/\\ab ]{6,9}[ab]', fullmatch=True)
SPECIAL = [OWN, OWN[:14], "sk-", r"\u00", "61", r"\\u0061"]
PIECES = st.lists(st.text('ab/\\"s \n', max_size=6) | st.sampled_from(SPECIAL))


def escaped(text: str, depth: int) -> str:
    for _ in range(depth):
        text = msgspec.json.encode(text).decode()[1:-1]
    return text


@settings(max_examples=300)
@given(
    keys=st.lists(KEYS, max_size=3),
    parts=PIECES,
    cuts=st.lists(st.integers(1, 9), min_size=1),
    data=st.data(),
)
@example(keys=["aabaabaa", "abaabaab"], parts=["aabaabaa"], cuts=[1], data=None)
def test_no_key_is_in_the_pieces_of_a_text(
    keys: list[str], parts: list[str], cuts: list[int], data: object
) -> None:
    if data is not None:
        draw = data.draw  # type: ignore[attr-defined]
        for key in keys:
            parts.insert(draw(st.integers(0, len(parts))), escaped(key, draw(st.integers(0, 2))))
    text = "".join(parts)
    with LIVE_KEYS.holding(keys[0] if keys else None), LIVE_KEYS.holding(keys[1] if keys[1:] else None):
        pieces, sent, at = KeylessPieces(), [], 0
        while at < len(text):
            size = cuts[len(sent) % len(cuts)]
            sent.append(pieces.take(text[at : at + size]))
            at += size
        sent.append(pieces.end())
        joined = "".join(sent)
        assert without_keys(joined) == joined
        if "\\" not in text:
            assert joined == without_keys(text)


def test_a_text_flows_word_by_word() -> None:
    pieces = KeylessPieces()
    assert [pieces.take(piece) for piece in ("Hel", "lo, th", "is s", "how ")] == [
        "Hel",
        "lo, th",
        "is ",
        "show ",
    ]
    assert pieces.take("echo sk-triocept-") == "echo "
    assert pieces.take(OWN[12:]) == ""
    assert pieces.take(" done") == "[redacted] done"
    assert pieces.end() == ""


def test_the_rest_of_a_text_is_sent_at_its_end() -> None:
    pieces = KeylessPieces()
    assert pieces.take("yes") == "ye"
    assert pieces.end() == "s"
