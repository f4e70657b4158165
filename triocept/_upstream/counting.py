"""How many tokens a prompt has, asked of the provider that will read it.

Anthropic, vLLM and llama.cpp have a call for it in Messages, OpenAI one in Responses, Google one. Beside chat
completions vLLM has `/tokenize`, which takes messages, and llama.cpp `/apply-template` and `/tokenize`, for the prompt
that it makes of them.

Rules:

1. Nobody fails for want of a count: where none is to be had there is none, and it is estimated.
2. A provider that has no such call is asked once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, final

from .._canonical.content import Json
from .._canonical.request import Request
from ..dialects._json import decode_json, encode_json
from ..errors import DialectError, UpstreamError
from .patience import Patience
from .provider_request import ProviderRequest
from .request import Requests

if TYPE_CHECKING:
    from .transport import ProviderClient

__all__ = ["Counter"]

SECONDS = 10.0
"""For a count: the agent is waiting, and an estimate is there at once."""
_ABSENT = frozenset({400, 403, 404, 405, 422, 501})
_COUNTED = frozenset({"model", "messages", "system", "tools", "tool_choice", "thinking"})
_OF_RESPONSES = frozenset(
    {"model", "input", "instructions", "tools", "tool_choice", "reasoning", "text", "parallel_tool_calls"}
)
_OF_GEMINI = frozenset({"contents", "systemInstruction", "tools", "toolConfig"})


@final
class Counter:
    """Counts the tokens of prompts for one upstream."""

    def __init__(self, requests: Requests, transport: ProviderClient, dialect: str) -> None:
        self._requests = requests
        self._transport = transport
        self._dialect = dialect
        self._absent: set[str] = set()

    async def count(self, request: Request) -> int | None:
        """The tokens of a prompt; None: nobody says.

        Cancellation: closes the connection to the provider.
        """
        try:
            call = self._requests.of_request(request, stream=False)
        except DialectError:
            return None
        document = decode_json(call.body)
        patience = Patience(SECONDS, None)
        with patience.scope:
            return await self._count(call, document, patience)
        return None

    async def _count(self, call: ProviderRequest, document: Json, patience: Patience) -> int | None:
        match self._dialect:
            case "anthropic_messages":
                asked = _only(document, _COUNTED)
                return await self._ask(_at(call, "/count_tokens", asked), patience, "input_tokens")
            case "openai_responses":
                asked = _only(document, _OF_RESPONSES)
                return await self._ask(_at(call, "/input_tokens", asked), patience, "input_tokens")
            case "gemini":
                name = call.url.partition("/models/")[2].partition(":")[0]
                asked = {"generateContentRequest": {"model": f"models/{name}", **_only(document, _OF_GEMINI)}}
                url = call.url.replace(":generateContent", ":countTokens", 1)
                return await self._ask(
                    replace(call, url=url, body=encode_json(asked)), patience, "totalTokens"
                )
            case "openai_chat":
                return await self._of_chat(document, patience)
            case _:
                return None

    async def _of_chat(self, document: Json, patience: Patience) -> int | None:
        asked = _only(document, _COUNTED)
        vllm = self._requests.beside("/tokenize", {**asked, "add_generation_prompt": True})
        if (count := await self._ask(vllm, patience, "count")) is not None:
            return count
        template = await self._answer(self._requests.beside("/apply-template", asked), patience)
        prompt = template.get("prompt") if isinstance(template, dict) else None
        if not isinstance(prompt, str):
            return None
        text = {"content": prompt, "add_special": True, "parse_special": True}
        told = await self._answer(self._requests.beside("/tokenize", text), patience)
        tokens = told.get("tokens") if isinstance(told, dict) else None
        return len(tokens) if isinstance(tokens, list) else None

    async def _ask(self, call: ProviderRequest, patience: Patience, name: str) -> int | None:
        answer = await self._answer(call, patience)
        count = answer.get(name) if isinstance(answer, dict) else None
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    async def _answer(self, call: ProviderRequest, patience: Patience) -> Json:
        """What the provider says; None where that is not an answer, or there is no such call."""
        if call.address in self._absent:
            return None
        try:
            async with self._transport.open(call, patience) as reply:
                body = await reply.read()
                if reply.status in _ABSENT:
                    self._absent.add(call.address)
                return decode_json(body) if reply.status == 200 else None
        except (UpstreamError, DialectError):
            return None


def _only(document: Json, names: frozenset[str]) -> dict[str, Json]:
    return {name: value for name, value in document.items() if name in names}


def _at(call: ProviderRequest, path: str, document: Json) -> ProviderRequest:
    address, _, query = call.url.partition("?")
    url = f"{address}{path}?{query}" if query else f"{address}{path}"
    return replace(call, url=url, body=encode_json(document))
