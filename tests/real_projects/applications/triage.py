"""An application: it asks a model which team a ticket goes to, and people where that fails."""

import anthropic
import openai


def triage(ticket: str) -> str:
    with openai.OpenAI(max_retries=1) as client:
        try:
            completion = client.chat.completions.create(
                model="gpt-5",
                messages=[
                    {"role": "system", "content": "Name one team."},
                    {"role": "user", "content": ticket},
                ],
            )
        except openai.APIError:
            return "people"
    return completion.choices[0].message.content or ""


def translate(text: str) -> str:
    with anthropic.Anthropic(max_retries=0) as client:
        with client.messages.stream(
            model="claude-sonnet-5", max_tokens=99, messages=[{"role": "user", "content": text}]
        ) as stream:
            return "".join(stream.text_stream)
