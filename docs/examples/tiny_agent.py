"""A whole agent on one screen: it asks a model, and runs what the model tells it to.

It knows nothing of triocept. Like most agents it finds its model by two variables.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

BASH = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Run a shell command.",
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
        },
    },
}


def ask(messages):
    """One model call: the whole conversation goes out, one message comes back."""
    body = {"model": "any", "messages": messages, "tools": [BASH]}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": "Bearer " + os.environ["OPENAI_API_KEY"],
            "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request) as response:
            return json.load(response)["choices"][0]["message"]
    except urllib.error.HTTPError as exc:
        sys.exit(f"the model refused: {exc.code} {json.load(exc)['error']['message']}")


def run(command):
    """One tool call: what the command printed."""
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def main():
    messages = [{"role": "user", "content": " ".join(sys.argv[1:])}]
    while True:
        message = ask(messages)
        messages.append(message)
        if not message.get("tool_calls"):
            break
        for call in message["tool_calls"]:
            output = run(json.loads(call["function"]["arguments"])["command"])
            result = {"role": "tool", "tool_call_id": call["id"], "content": output}
            messages.append(result)
    print(message["content"])


main()
