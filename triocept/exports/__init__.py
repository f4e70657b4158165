"""Traces in the formats of others: `write_export(read_traces(path), "inspect", "log.json")`.

* `flat`: a row for each turn. `parquet`: the same rows, with a schema.
* `fine_tuning`: OpenAI's lines, and what is wrong with one.
* `verifiers`, `inspect_log`, `atif`: rollouts as episodes, samples and trajectories.
* `har`: an HTTP archive.
* `otlp`: spans, as a file. `live`: the same, sent while agents run.

What they share:

* `_formats`: the formats by name. `_files`: whole files, or none. `_lines`: documents on lines. `_losses`: what a
  format could not say, counted.
* `_chat`: messages in the words of chat completions. `_segments`: a trace, cut where it can be told in a row. `_times`.
* `_optional`: packages that an extra brings.
* `_steps` (ATIF's), `_inspect_messages`, `_inspect_events` and `_inspect_spans` (Inspect's), `_spans` (of
  OpenTelemetry): the inner parts of those formats.

No format imports its package, but Parquet and the live spans, and those only when they are used.
"""

from ._formats import FORMATS, Format, write_export
from ._losses import Loss, Losses
from .atif import atif_documents
from .fine_tuning import check_fine_tuning, fine_tuning_lines
from .flat import flat_rows
from .har import har_log
from .inspect_log import inspect_log
from .live import OTelRecorder
from .otlp import otlp_document
from .parquet import parquet_schema
from .verifiers import verifiers_episode

__all__ = [
    "FORMATS",
    "Format",
    "Loss",
    "Losses",
    "OTelRecorder",
    "atif_documents",
    "check_fine_tuning",
    "fine_tuning_lines",
    "flat_rows",
    "har_log",
    "inspect_log",
    "otlp_document",
    "parquet_schema",
    "verifiers_episode",
    "write_export",
]
