"""Parts of a text that differ from run to run though the agent and its task have not changed.

1. Dates, times, durations, ids. Measured with Claude Code 2.1.197, Codex 0.169 and opencode 1.18: their prompts contain
   the date in one form or another, and new names for conversations, tasks and items.
2. The state of the working directory, which the run itself changes: a git snapshot (Claude Code 2.1.197 and 2.1.332,
   qwen-code 0.24.4, Continue 1.5.47) and a listing of files (gemini-cli 0.61.0, qwen-code 0.15.10, kimi-cli 1.39.0,
   kimi-code 2.1.0).
3. The relative path from the working directory up to the home (qwen-code: `../../home/.qwen/…`).
"""

from __future__ import annotations

import re

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[AP]M)?"
_PATTERNS = {
    # Claude Code, and qwen-code (`git: ` before each line), up to the last commit; Continue
    "git": r"(?m:^)(?:git: )?Current branch: [^\n]*\n(?:[^\n]*\n){0,500}?(?:git: )?Recent commits:"
    r"(?:\n(?:git: )?[0-9a-f]{4,40} [^\n]*)*"
    r"|(?<=<context name=\"gitStatus\">)[^<]*(?=</context>)",
    # gemini-cli and qwen-code; kimi-cli and kimi-code
    "files": r"(?m:^)Showing up to \d+ items[^\n]*\n\n[^\n]*/(?:\n(?:│   |    |├───|└───)[^\n]*)*"
    r"|(?<=directory listing of current working directory is:\n\n)```\n(?:[^\n]*\n){0,2000}?(?=```)",
    "up": r"(?<![\w./-])(?:\.\./)++(?:[^\s/]{1,255}/){0,16}?(?=\.[A-Za-z])",
    "uuid": r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
    "date": rf"\b\d{{4}}-\d\d-\d\d(?:[T ]{_CLOCK}(?:Z|[+-]\d\d:?\d\d)?)?\b"
    # `Thu Nov 26 2026`, `Thu Nov 26 20:15:32 UTC 2026`, `Thursday, November 26, 2026`
    rf"|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +{_MONTH} +\d{{1,2}}(?: {_CLOCK}(?: [A-Z]{{3,4}})?)?(?:,? \d{{4}})?\b"
    rf"|\b{_MONTH} +\d{{1,2}},? +(?:{_CLOCK}|\d{{4}})\b",  # as `ls -l` has it
    "time": rf"\b{_CLOCK}\b",
    "duration": r"\b\d+(?:\.\d+)? ?(?:ms|s|secs?|seconds?|minutes?)\b",
    "id": r"\b(?:call|toolu|fc|fco|ctc|msg|ses|prt|rs|resp|req|run|task)_[A-Za-z0-9_]+\b"
    r"|\b[a-z]{1,8}_[0-9a-f]{12,}\b"  # triocept's own ids, which errors contain
    r"|\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{6,}\b",
    "number": r"(?<=>)\d+(?:\.\d+)?(?=</)"  # alone in a tag: tokens, milliseconds
    r"|(?<=\bPID: )\d+|(?<=\bPGID: )\d+",  # of a process: gemini-cli 0.61.0 ends each command's output with it
}
_pattern = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _PATTERNS.items()))


def steady(text: str) -> str:
    """Return the text with a placeholder of its kind for each part that differs from run to run."""
    return _pattern.sub(lambda found: f"<{found.lastgroup}>", text)
