"""All that has to be linear, by what it is called."""

from tests.growth.connections import CONNECTIONS, STEADY_CONNECTIONS
from tests.growth.documents import DOCUMENTS
from tests.growth.measured import Make
from tests.growth.records import RECORDS, STEADY_RECORDS
from tests.growth.served import SERVED, STEADY_SERVED
from tests.growth.streams import STEADY_STREAMS, STREAMS
from tests.growth.tables import STEADY_TABLES, TABLES

SECTIONS: dict[str, dict[str, Make]] = {
    "Streams of a provider": STREAMS,
    "Requests and answers of an agent": DOCUMENTS,
    "Records of a run": RECORDS,
    "Input parsers of a connection": CONNECTIONS,
    "Requests over a whole connection": SERVED,
    "Tables of an endpoint": TABLES,
}
ROWS: dict[str, Make] = {name: make for rows in SECTIONS.values() for name, make in rows.items()}
STEADY: dict[str, Make] = {
    **STEADY_STREAMS,
    **STEADY_RECORDS,
    **STEADY_CONNECTIONS,
    **STEADY_SERVED,
    **STEADY_TABLES,
}
"""What keeps nothing of what is through, and takes as much memory for n as for 2n."""
