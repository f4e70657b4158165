"""`--redact-known-keys`: the redaction of a command's record."""

from __future__ import annotations

import click

from .._trace.redaction import Redaction


def _redaction(context: click.Context, option: click.Parameter, known_keys: bool) -> Redaction | None:
    return Redaction(known_keys=True) if known_keys else None


redact_option = click.option(
    "--redact-known-keys",
    "redact",
    is_flag=True,
    callback=_redaction,
    help="Record [redacted] in place of what looks like a key of GitHub, AWS, OpenAI, Anthropic, Google, Slack or "
    "others, or like a private key. Without it, only keys that triocept itself uses are taken out.",
)
