"""Samples, as verl's agent loops give them: checked by its type, and as the tensors that it makes of them."""

import json
import sys
from pathlib import Path

from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

told = []
for fields in json.loads(Path(sys.argv[1]).read_text()):
    document = AgentLoopOutput(**fields, metrics=AgentLoopMetrics()).as_dict()
    told.append({name: getattr(value, "tolist", lambda it=value: it)() for name, value in document.items()})
print(json.dumps(told))
