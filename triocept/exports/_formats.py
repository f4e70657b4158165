"""The formats by name, and `write_export`, which writes an export whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias, final

from .._trace.trace import Trace
from .._util.checks import check_type
from ._files import new_file, new_folder
from ._losses import Losses
from .atif import write_atif
from .fine_tuning import write_fine_tuning
from .flat import write_flat
from .har import write_har
from .inspect_log import write_inspect
from .otlp import write_otlp, write_otlp_with_content
from .parquet import write_parquet
from .verifiers import write_verifiers

WriteFile: TypeAlias = Callable[..., None]
"""A function of `(traces, file, losses)`, and `reward=` if the format takes it."""
WriteFolder: TypeAlias = Callable[[Iterable[Trace], Path, Losses], None]


@final
@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of exports."""

    name: str
    what: str
    """Short description of the format."""
    write: WriteFile | None = None
    """Function that writes one file; None: the format has several files."""
    write_folder: WriteFolder | None = None
    """Function that fills a folder; None: the format has one file."""
    takes_reward: bool = False
    """True if `write` takes `reward`, the name of the score that is the reward."""


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        each.name: each
        for each in (
            Format(name="jsonl", what="a flat row for each turn, for jq, pandas, datasets", write=write_flat),
            Format(name="parquet", what="the same rows, with a schema", write=write_parquet),
            Format(name="openai", what="OpenAI's fine-tuning JSONL", write=write_fine_tuning),
            Format(name="verifiers", what="episodes of verifiers", write=write_verifiers, takes_reward=True),
            Format(name="inspect", what="a log of Inspect, for its viewer", write=write_inspect),
            Format(name="atif", what="trajectories of ATIF 1.8, a folder", write_folder=write_atif),
            Format(name="har", what="an HTTP archive, for proxies and browsers", write=write_har),
            Format(name="otlp", what="spans of OpenTelemetry, as OTLP/JSON", write=write_otlp),
            Format(
                name="otlp-content",
                what="the same spans, with all that was said in them",
                write=write_otlp_with_content,
            ),
        )
    }
)
"""The formats, by name."""


def write_export(
    traces: Iterable[Trace],
    to: str,
    path: str | Path,
    *,
    replace: bool = False,
    losses: Losses | None = None,
    reward: str | None = None,
) -> Losses:
    """Write traces in another format, whole or not at all.

    Args:
        traces: traces of any number of rollouts.
        to: the format, one of `FORMATS`.
        path: path of the new file (for `atif`, of the new folder).
        replace: replace an existing file; a folder is never replaced.
        losses: counts content that the format cannot express; None: a new one.
        reward: for `verifiers`, the name of the score that is the reward; all other scores are metrics. None: if all
            rollouts together have one score, that score is the reward; else all are metrics, with a warning.

    Returns:
        `losses`.

    Raises:
        ValueError: the format is unknown; or `reward` is given for a format without a reward, or is no rollout's score.
        FileExistsError: `path` exists.
        OSError: the export cannot be written.
        ModuleNotFoundError: the format needs a package that is not installed; the message names it.
    """
    check_type("to", to, str, "the name of a format, a str")
    if (found := FORMATS.get(to)) is None:
        raise ValueError(f"there is no format {to!r}; there are {', '.join(FORMATS)}")
    if reward is not None and not found.takes_reward:
        raise ValueError(f"reward={reward!r} is for the format verifiers, not {to}")
    losses = losses if losses is not None else Losses()
    if found.write_folder is not None:
        with new_folder(Path(path)) as folder:
            found.write_folder(traces, folder, losses)
    if found.write is not None:
        with new_file(Path(path), replace=replace) as file:
            write = found.write if reward is None else partial(found.write, reward=reward)
            write(traces, file, losses)
    return losses
