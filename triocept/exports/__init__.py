"""Write traces in other formats: `write_export(read_traces(path), "inspect", "log.json")`.

* `flat` writes a row for each turn, as JSONL or as Parquet.
* `fine_tuning` writes and checks lines for OpenAI's fine-tuning.
* `verifiers`, `inspect_log` and `atif` write rollouts as episodes of verifiers, samples of Inspect, and trajectories of
  ATIF.
* `har` writes rollouts as an HTTP archive. `html` writes the page of the live view as one file.
* `otlp` writes OpenTelemetry spans into a file. `live` sends such spans while agents run.

Shared modules:

* `_formats` lists the formats by name, and writes each file either completely or not at all.
* `_shared` counts content that a format cannot express, converts lines and times, and imports optional packages.
* `_chat` writes messages in the form of chat completions. `_segments` divides a trace into linear segments.
* `_inspect_parts` writes messages and spans of Inspect.

Only Parquet and the live spans need another package, which is imported when they are used.
"""

from ._formats import FORMATS, Format, write_export
from ._shared import Loss, Losses
from .atif import atif_documents
from .fine_tuning import check_fine_tuning, fine_tuning_lines
from .flat import flat_rows, parquet_schema
from .har import har_log
from .html import html_page
from .inspect_log import inspect_log
from .live import OTelRecorder
from .otlp import otlp_document
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
    "html_page",
    "inspect_log",
    "otlp_document",
    "parquet_schema",
    "verifiers_episode",
    "write_export",
]
