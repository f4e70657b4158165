"""The lines of a fine-tuning file, as openai's own types have their messages; and what those types do not know."""

import json
import sys
from pathlib import Path

from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from pydantic import TypeAdapter

MESSAGES = TypeAdapter(list[ChatCompletionMessageParam])
TOOLS = TypeAdapter(list[ChatCompletionFunctionToolParam])

read = []
for line in Path(sys.argv[1]).read_text().splitlines():
    document = json.loads(line)
    messages = json.loads(MESSAGES.dump_json(MESSAGES.validate_python(document["messages"])))
    tools = json.loads(TOOLS.dump_json(TOOLS.validate_python(document.get("tools", []))))
    read.append({"messages": messages, "tools": tools})
print(json.dumps(read))
