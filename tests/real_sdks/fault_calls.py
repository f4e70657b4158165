"""What Python's SDKs make of faults: reads jobs, one JSON document, on stdin, and prints a line of JSON for each.

The SDKs are as they come, but for their timeout. A line says what was raised, and whether it is one of the SDK's own
errors, or what was returned.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import anthropic
import google.genai.errors
import openai
from google import genai

ASKED = [{"role": "user", "content": "What does the fox do?"}]
AT_ONCE = 12
_printing = Lock()


def openai_whole(job: dict[str, Any]) -> dict[str, Any]:
    with openai.OpenAI(base_url=job["url"], api_key=job["key"], timeout=job["timeout"]) as client:
        completion: Any = client.chat.completions.create(model="m", messages=ASKED)  # type: ignore[arg-type]
        if isinstance(completion, str) or not completion.choices:
            return odd(completion)
        choice = completion.choices[0]
        calls = choice.message.tool_calls or []
        return told(
            choice.message.content, choice.finish_reason, *[call.function.arguments for call in calls]
        )


def openai_streamed(job: dict[str, Any]) -> dict[str, Any]:
    text, arguments, reason = "", "", None
    with openai.OpenAI(base_url=job["url"], api_key=job["key"], timeout=job["timeout"]) as client:
        chunks: Any = client.chat.completions.create(model="m", messages=ASKED, stream=True)  # type: ignore[call-overload]
        for chunk in chunks:
            for choice in chunk.choices or []:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
                for call in choice.delta.tool_calls or []:
                    arguments += call.function.arguments or ""
    return told(text, reason, *([arguments] if arguments else []))


def anthropic_whole(job: dict[str, Any]) -> dict[str, Any]:
    with anthropic.Anthropic(base_url=job["url"], api_key=job["key"], timeout=job["timeout"]) as client:
        return _message(client.messages.create(model="m", max_tokens=100, messages=ASKED))  # type: ignore[arg-type]


def anthropic_streamed(job: dict[str, Any]) -> dict[str, Any]:
    with anthropic.Anthropic(base_url=job["url"], api_key=job["key"], timeout=job["timeout"]) as client:
        with client.messages.stream(model="m", max_tokens=100, messages=ASKED) as stream:  # type: ignore[arg-type]
            return _message(stream.get_final_message())


def _message(message: Any) -> dict[str, Any]:
    if isinstance(message, str) or message.content is None:
        return odd(message)
    text = "".join(block.text for block in message.content if block.type == "text")
    inputs = [json.dumps(block.input) for block in message.content if block.type == "tool_use"]
    return told(text, message.stop_reason, *inputs)


def google_whole(job: dict[str, Any]) -> dict[str, Any]:
    client = _google(job)  # held: it is closed with its last reference
    return _content([client.models.generate_content(model="m", contents="What does the fox do?")])


def google_streamed(job: dict[str, Any]) -> dict[str, Any]:
    client = _google(job)
    return _content(list(client.models.generate_content_stream(model="m", contents="What does the fox do?")))


def _google(job: dict[str, Any]) -> genai.Client:
    options = genai.types.HttpOptions(base_url=job["url"], timeout=int(job["timeout"] * 1000))
    return genai.Client(api_key=job["key"], http_options=options)


def _content(responses: list[Any]) -> dict[str, Any]:
    candidates = [candidate for response in responses for candidate in response.candidates or []]
    parts = [part for each in candidates if each.content for part in each.content.parts or []]
    reasons = [each.finish_reason for each in candidates if each.finish_reason]
    text = "".join(part.text or "" for part in parts)
    inputs = [json.dumps(part.function_call.args) for part in parts if part.function_call]
    return told(text, reasons[-1].value if reasons else None, *inputs)


def told(text: str | None, reason: str | None, *arguments: str) -> dict[str, Any]:
    return {"text": text or "", "reason": reason, "arguments": list(arguments)}


def odd(found: object) -> dict[str, Any]:
    """Something that is no answer, though nothing was raised."""
    return {"type": type(found).__name__}


CALLS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], type[Exception]]] = {
    "openai whole": (openai_whole, openai.OpenAIError),
    "openai streamed": (openai_streamed, openai.OpenAIError),
    "anthropic whole": (anthropic_whole, anthropic.AnthropicError),
    "anthropic streamed": (anthropic_streamed, anthropic.AnthropicError),
    "google whole": (google_whole, google.genai.errors.APIError),
    "google streamed": (google_streamed, google.genai.errors.APIError),
}


def run(job: dict[str, Any]) -> None:
    call, own = CALLS[job["call"]]
    try:
        line = {"job": job["job"], **call(job)}
    except Exception as exc:
        line = {"job": job["job"], "raised": type(exc).__name__, "own": isinstance(exc, own)}
    with _printing:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    versions = {
        "openai": openai.__version__,
        "anthropic": anthropic.__version__,
        "google": genai.version.__version__,
    }
    runtime = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    print(json.dumps({"versions": versions, "runtime": runtime}), flush=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(run, json.load(sys.stdin)))
