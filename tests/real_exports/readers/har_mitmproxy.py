"""An archive, as mitmproxy has it: the flows that it reads from one."""

import json
import sys

from mitmproxy.io import FlowReader

with open(sys.argv[1], "rb") as file:
    flows = list(FlowReader(file).stream())
print(
    json.dumps(
        [
            {
                "url": flow.request.pretty_url,
                "status": flow.response.status_code,
                "asked": flow.request.get_text(),
                "answered": flow.response.get_text(),
            }
            for flow in flows
        ]
    )
)
