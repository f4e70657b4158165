"""Make docs/run.svg, the picture of the README: run `triocept run` with Claude Code in a terminal, and draw its output.

Needs `claude` on PATH (npm's @anthropic-ai/claude-code); no key and no model:

    python docs/picture.py
"""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 88
SCRIPT = """\
from triocept import ToolCall

replies = [ToolCall.of("Bash", command="echo hello > proof.txt"), "All done."]
"""
COMMAND = ["triocept", "run", "--script", "replies.py", "--record", "trace.jsonl"]
AGENT = ["claude", "-p", "fix the bug", "--allowedTools", "Bash"]
SHOWN = """\
triocept run --script replies.py --record trace.jsonl \\
    -- claude -p "fix the bug" --allowedTools Bash"""
NO_COLOR = re.compile(
    rb"\x1b\][^\x07]*\x07|\x1b\[[<>?][0-9;]*[a-zA-Z]|\x1b\[[0-9;]*[A-Za-ln-z]|\x1b[()78=>][B0]?|\x0f"
)
"""Escape sequences but those of colors: Claude Code restores the terminal with some when it ends."""
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("replies.py").write_text(SCRIPT)
        os.environ["COLUMNS"] = str(WIDTH)
        output = _run_in_terminal([*COMMAND, "--", *AGENT])
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), SHOWN))
    console.print(
        Text.from_ansi(NO_COLOR.sub(b"", output).decode().replace("\r\n", "\n"))
    )
    picture = console.export_svg(
        title="triocept run", code_format=FORMAT, unique_id="run"
    )
    Path(__file__).with_name("run.svg").write_text(picture)


def _run_in_terminal(argv: list[str]) -> bytes:
    written = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 4096)
        written.extend(data)
        return data

    if code := os.waitstatus_to_exitcode(pty.spawn(argv, read)):
        sys.exit(f"{argv[0]} ended with {code}")
    return bytes(written)


if __name__ == "__main__":
    main()
