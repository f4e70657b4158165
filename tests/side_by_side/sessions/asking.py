"""One call of a model, without an SDK: what is measured is the server's, and the fixture's."""

import json
import urllib.request

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def ask(base_url, key="sk-test"):
    """The text of a chat completion."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{base_url}/chat/completions", json.dumps(HELLO).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["choices"][0]["message"]["content"]
