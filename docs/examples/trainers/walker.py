"""An agent that walks where its model says: `python walker.py east`.

It knows nothing of triocept, nor of training. Like most agents it finds its model by
two variables. At the end it prints where it is.
"""

import json
import os
import sys
import urllib.request

TURNS = 3
WAYS = {"north": (0, 1), "east": (1, 0), "south": (0, -1), "west": (-1, 0)}


def ask(messages):
    """One model call: the whole conversation goes out, some words come back."""
    body = {"model": "any", "messages": messages, "max_tokens": 3}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": "Bearer " + os.environ["OPENAI_API_KEY"],
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]["message"]


def main(goal):
    x = y = 0
    messages = []
    for _ in range(TURNS):
        messages.append({"role": "user", "content": f"go {goal}"})
        messages.append(ask(messages))
        for word in messages[-1]["content"].split():
            right, up = WAYS.get(word, (0, 0))
            x, y = x + right, y + up
    print(x, y)


main(sys.argv[1])
