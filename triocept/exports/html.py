"""Write the live view's page as one HTML file, which contains all data that the page shows.

The file needs no server, and loads nothing. It does not contain token ids, the pieces of streamed answers, or HTTP
traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import IO

from .._trace.trace import Trace
from .._util.figures import counted
from .._view.files import html_of
from .._view.source import Source
from ._shared import Losses, Lost, count_lost


def html_page(traces: Iterable[Trace], losses: Losses | None = None, *, title: str | None = None) -> bytes:
    """Return one HTML file, in UTF-8, that shows the traces.

    Args:
        traces: traces of any number of rollouts.
        losses: counter of content that is not in the page; None means that such content is not counted.
        title: the title of the page. If None, the title is the id of the only rollout, or the number of rollouts.
    """
    source = source_of(traces, losses if losses is not None else Losses(), title)
    return html_of(source.document(), source.title)


def source_of(
    traces: Iterable[Trace], losses: Losses, title: str | None = None, file: Callable[[], str] = str
) -> Source:
    """Return the traces as the `Source` that the page shows, and count content that is not in the page.

    `file` is called after a trace was read, and returns the name of the trace's file. The default returns "": the page
    then shows no names of files.
    """
    source = Source("")
    for trace in traces:
        source.add(trace, file())
        count_lost(losses, trace, Lost.TOKENS, Lost.INCREMENTS, Lost.WIRE, always=())
    names = [run.trace.rollout for run in source.runs.values()]
    only = names[0] if len(names) == 1 else counted(len(names), "rollout", "rollouts")
    source.title = only if title is None else title
    source.notes = [each for run in source.runs.values() for each in map(str, run.trace.gaps)]
    return source


def write_html(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    file.write(html_page(traces, losses))
