"""Where a failure stands that no line of the test has raised: at the head of the test, for a report and an editor."""

from __future__ import annotations

from typing import NoReturn

import pytest

__all__ = ["raise_at"]


def raise_at(item: pytest.Item, error: BaseException) -> NoReturn:
    """Raise `error`, as if the first line of the test had done it.

    pytest shows nothing of a traceback in which no line is a project's own, but a hint at an option.
    """
    path, line, name = item.reportinfo()
    code = compile("raise error", str(path), "exec")
    exec(code.replace(co_name=name, co_firstlineno=(line or 0) + 1), {"error": error})
    raise AssertionError("unreachable")
