"""Known forms of keys: of GitHub, AWS, OpenAI, Anthropic, Google, Slack and others, and private keys in PEM.

A key is found if it stands alone, or directly after an escape of JSON or of a URL. Directly after a letter, a key is
found only if no word has the form of the key: `task-…` is not a key, but `tokensk-ant-api03-…` contains a key.
"""

from __future__ import annotations

import re
from functools import cache

_ANY = "[A-Za-z0-9_-]"
_WITH_DIGIT = rf"(?=[A-Za-z_-]*[0-9]){_ANY}{{20,}}"
_END = f"(?!{_ANY})"
_JWT = r"\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
_OPENAI_ANTHROPIC_OPENROUTER = (
    rf"ant-[a-z]{{3,6}}[0-9]{{2}}-{_ANY}{{20,}}|or-v1-[0-9a-f]{{64}}|(?:proj|svcacct|admin)-{_ANY}{{60,}}"
    rf"|{_ANY}{{20,200}}T3BlbkFJ{_ANY}{{20,}}"  # `OpenAI` in Base64
)
_FORMS = (
    ("sk-", _WITH_DIGIT, _OPENAI_ANTHROPIC_OPENROUTER),
    ("AIza", rf"{_ANY}{{35}}", rf"{_ANY}{{35}}{_END}"),  # Google
    ("gsk_", _WITH_DIGIT, "[A-Za-z0-9]{40,}"),  # Groq
    ("hf_", _WITH_DIGIT, rf"[A-Za-z]{{34}}{_END}"),  # Hugging Face
    ("xai-", _WITH_DIGIT, "[A-Za-z0-9]{60,}"),
    ("nvapi-", _WITH_DIGIT, rf"{_ANY}{{50,}}"),
    ("pplx-", _WITH_DIGIT, "[A-Za-z0-9]{40,}"),
    ("gh[pousr]_", "[A-Za-z0-9]{36}", rf"[A-Za-z0-9]{{36}}{_END}"),  # GitHub
    ("github_pat_", "[A-Za-z0-9_]{22,}", "[A-Za-z0-9_]{60,}"),
    ("glpat-", rf"{_ANY}{{20,}}", rf"{_ANY}{{20,}}"),  # GitLab
    ("A[KS]IA", "[A-Z0-9]{16}(?![A-Za-z0-9])", "(?<=[a-z]A[KS]IA)[A-Z0-9]{16}(?![A-Za-z0-9])"),  # AWS
    ("xox", "[abprs]-[A-Za-z0-9-]{20,}", "[abprs]-[0-9]{8,20}-[A-Za-z0-9-]{20,}"),  # Slack
    ("eyJ", rf"{_ANY}{{10,}}{_JWT}", rf"{_ANY}{{10,400}}{_JWT}"),  # JSON web tokens
)
"""For each form: the beginning of a key, the pattern of the other characters, and the stricter pattern that applies
directly after a letter."""
_PEM = r"""-----BEGIN [A-Z ]*PRIVATE KEY-----(?!\\*["'`])[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"""
"""Pattern of a private key. A truncated key extends to the end of the text. If the first line is in quotes, the text
only mentions a key, and the pattern does not match."""


@cache
def key_forms() -> re.Pattern[str]:
    """Return one pattern for all known forms of keys. The pattern is compiled at the first call."""
    # The lookbehind comes after the first letters: `re` then skips all places at which no alternative begins.
    before = (f"(?<!{_ANY}", r"(?<=\\[nrtbf]", r"(?<=\\u[0-9A-Fa-f]{4}", "(?<=%[0-9A-Fa-f]{2}")
    forms = []
    for begin, rest, glued in _FORMS:
        alone = "|".join([f"{each}{begin})" for each in before])
        forms.append(f"{begin}(?:(?:{alone}){rest}|{glued})")
    return re.compile("|".join([*forms, _PEM]))
