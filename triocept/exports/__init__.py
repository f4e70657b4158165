"""Writers of traces in other formats: `write_export(read_traces(path), "inspect", "log.json")`.

* `flat`: a row for each turn, as JSONL and as Parquet.
* `fine_tuning`: lines for OpenAI's fine-tuning, and a checker of such lines.
* `verifiers`, `inspect_log`, `atif`: rollouts as episodes of verifiers, samples of Inspect, and trajectories of ATIF.
* `har`: rollouts as an HTTP archive. `html`: the page of the live view as one file.
* `otlp`: OpenTelemetry spans in a file. `live`: spans that are sent while agents run.

Shared modules:

* `_formats`: the formats by name, and the writing of files, whole or not at all.
* `_shared`: counts of content that a format cannot express; lines, times, and imports of optional packages.
* `_chat`: messages in the form of chat completions. `_segments`: a trace as linear segments.
* `_inspect_parts`: messages and spans of Inspect.

Only Parquet and the live spans import a package for their format, and only when they are used.
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
