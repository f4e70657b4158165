"""Calls other than model calls: environment variables for agents, token counts, embeddings and moderations.

The wire has no call for the token count. vLLM has `/tokenize` beside it, which takes messages. llama.cpp has
`/apply-template`, which returns the prompt, and `/tokenize`, which takes it.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..side import CountCalls, ProviderCall, SideRoute, counted, only
from .embeddings import embeddings
from .moderations import moderations


def environment(base_url: str, api_key: str, model: str) -> dict[str, str]:
    """Return the environment variables of each agent; see `Dialect.environment`. Several agents need the model, too."""
    return {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_BASE": base_url,
        "OPENAI_API_KEY": api_key,
        "OPENAI_MODEL": model,
        "COPILOT_PROVIDER_BASE_URL": base_url,
        "COPILOT_PROVIDER_API_KEY": api_key,
        "COPILOT_MODEL": model,
        "GROK_BASE_URL": base_url,
        "GROK_API_KEY": api_key,
        # OpenHands uses litellm's form: the provider whose client is used, and its model.
        "LLM_BASE_URL": base_url,
        "LLM_API_KEY": api_key,
        "LLM_MODEL": f"openai/{model}",
    }


_COUNTED = ("model", "messages", "tools", "tool_choice")


def count_tokens(model: str, document: Json) -> CountCalls:
    """Yield the calls that count tokens; see `Dialect.count_tokens`."""
    asked = only(document, _COUNTED)
    told = yield _beside("/tokenize", {**asked, "add_generation_prompt": True})
    if (count := counted(told, "count")) is not None:
        return count
    template = yield _beside("/apply-template", asked)
    prompt = template.get("prompt") if isinstance(template, dict) else None
    if not isinstance(prompt, str):
        return None
    told = yield _beside("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})
    tokens = told.get("tokens") if isinstance(told, dict) else None
    return len(tokens) if isinstance(tokens, list) else None


def _beside(path: str, document: Json) -> ProviderCall:
    return ProviderCall(path=path, document=document, at_root=True)


SIDE_ROUTES = (
    SideRoute(paths=("/embeddings",), method="POST", answer=embeddings),
    SideRoute(paths=("/moderations",), method="POST", answer=moderations),
)
NOT_SERVED = (
    "/assistants",
    "/audio",
    "/batches",
    "/chatkit",
    "/containers",
    "/conversations",
    "/evals",
    "/files",
    "/fine_tuning",
    "/images",
    "/realtime",
    "/threads",
    "/uploads",
    "/vector_stores",
    "/videos",
)
