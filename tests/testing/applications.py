"""Applications under test: as small as can be, with the real SDKs."""

from collections.abc import Iterator
from contextlib import contextmanager

import openai


@contextmanager
def sync_client() -> Iterator[openai.OpenAI]:
    """A client as applications make it: of the environment."""
    with openai.OpenAI(max_retries=0, timeout=30) as client:
        yield client


def asked(text: str = "hi") -> str | None:
    """One call of an application, its client made for it."""
    with sync_client() as client:
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content
