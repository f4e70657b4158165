import openai
from triocept.handlers import Fault
from triocept.testing import fake_model


def ask(client: openai.OpenAI, *, stream: bool = False) -> str:
    said = [{"role": "user", "content": "What does the fox do?"}]
    completions = client.chat.completions
    if not stream:
        return completions.create(model="any", messages=said).choices[0].message.content
    chunks = completions.create(model="any", messages=said, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


replies = [
    Fault.reset(),  # the SDK tries again,
    Fault.status(429, retry_after=0),  # and again,
    "It jumps over the lazy dog.",
    Fault.cut(after=3),  # not in mid-stream,
    Fault.unended(after=3),  # and here it sees nothing wrong
]
with fake_model(*replies) as model:
    client = openai.OpenAI()
    print(ask(client))
    try:
        ask(client, stream=True)
    except openai.APIConnectionError as error:
        print("cut:", type(error).__name__)
    print("unended:", ask(client, stream=True))

for turn in model.trace:
    print(turn.number, turn.outcome, turn.error and turn.error.message)
