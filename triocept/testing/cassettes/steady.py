"""What differs from run to run, taken out of texts: directories, dates, times, ids."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..._trace.replay.roots import mask_of
from ..._trace.replay.volatile import steady as _steady

__all__ = ["steady"]


def steady(*directories: str | os.PathLike[str]) -> Callable[[str], str]:
    """A function for `normalise_text`: dates, times, durations, UUIDs and other ids become `<date>`, `<id>`, and so on.

    Args:
        directories: such as `tmp_path`; each, and what a tool makes of it as the name of one file, becomes `<root>`.
    """
    mask = mask_of([{os.fspath(path).rstrip("/"): os.fspath(path).rstrip("/")} for path in directories])
    return lambda text: _steady(mask(text))
