"""Rich requests in every dialect, and a search through them: each string and each member's name, one at a time."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

_SCHEMA = {"type": "object", "properties": {"q": {"type": "string", "description": "d", "enum": ["a"]}}}
_FUNCTION = {"name": "f", "description": "d", "parameters": _SCHEMA, "strict": True}
_PNG = "iVBORw0KGgo="
_URL = f"data:image/png;base64,{_PNG}"
_TEXT_URL = "data:text/plain;base64,aGk="

RICH: dict[str, dict[str, Any]] = {
    "openai_chat": {"model": "m",
     "messages": [{"role": "system", "content": "s"},
      {"role": "developer", "content": [{"type": "text", "text": "t", "x": "y"}], "name": "n"},
      {"role": "user", "content": [{"type": "text", "text": "t"},
        {"type": "image_url", "image_url": {"url": "http://h/i.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": _URL}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"type": "file", "file": {"file_data": _TEXT_URL, "filename": "a.txt"}},
        {"type": "file", "file": {"file_id": "file-1"}}, {"type": "later", "what": {"deep": ["w"]}}]},
      {"role": "assistant", "content": None, "reasoning_content": "hm",
       "reasoning_details": [{"type": "reasoning.text", "text": "r", "signature": "s"}],
       "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"q": "a"}'}},
        {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "free"}}]},
      {"role": "tool", "tool_call_id": "c1", "content": "r"},
      {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "r"}]},
      {"role": "assistant", "refusal": "no", "content": "but"}],
     "tools": [{"type": "function", "function": _FUNCTION},
      {"type": "custom", "custom": {"name": "g", "description": "d", "format": {"type": "text"}}}],
     "tool_choice": {"type": "function", "function": {"name": "f"}},
     "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA}},
     "stop": ["end"], "user": "u", "metadata": {"k": "v"}, "reasoning_effort": "low",
     "prediction": {"type": "content", "content": "p"}},
    "openai_completions": {"model": "m", "prompt": "p", "suffix": "s", "stop": ["end"], "user": "u",
     "x": {"y": "z"}},
    "openai_responses": {"model": "m", "instructions": "i",
     "input": [{"role": "user", "content": [{"type": "input_text", "text": "t"},
        {"type": "input_image", "image_url": _URL, "detail": "low"},
        {"type": "input_file", "file_data": _TEXT_URL, "filename": "a.txt"},
        {"type": "input_file", "file_url": "http://h/f"}, {"type": "later", "what": ["w"]}]},
      {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}]},
      {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAA"},
      {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
      {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"q": "a"}', "id": "fc_1"},
      {"type": "function_call_output", "call_id": "c1", "output": "r"},
      {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "free"},
      {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "r"}]},
      {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "q"}}],
     "tools": [{"type": "function", **_FUNCTION}, {"type": "web_search", "user_location": {"city": "c"}}],
     "tool_choice": {"type": "function", "name": "f"},
     "text": {"format": {"type": "json_schema", "name": "n", "schema": _SCHEMA}, "verbosity": "low"},
     "reasoning": {"effort": "low", "summary": "auto"}, "metadata": {"k": "v"}, "user": "u",
     "prompt_cache_key": "p", "client_metadata": {"k": "v"}},
    "anthropic_messages": {"model": "m", "max_tokens": 9,
     "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
     "messages": [
      {"role": "user", "content": [{"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PNG}},
        {"type": "image", "source": {"type": "url", "url": "http://h/i"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"},
         "title": "n", "context": "c", "citations": {"enabled": True, "x": "y"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "bare"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "t"}]}},
        {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "t"}]}]},
      {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "gAAAA"},
        {"type": "text", "text": "t", "citations": [{"type": "char_location", "cited_text": "c"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"q": {"deep": ["a"]}}},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}]},
      {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1",
         "content": [{"type": "text", "text": "r"},
          {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PNG}},
          {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"},
           "title": "n"}]}]}],
     "tools": [
      {"name": "f", "description": "d", "input_schema": _SCHEMA, "cache_control": {"type": "ephemeral"}},
      {"type": "web_search_20250305", "name": "web_search", "user_location": {"city": "c"}}],
     "tool_choice": {"type": "tool", "name": "f"}, "stop_sequences": ["end"], "metadata": {"user_id": "u"},
     "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
    "gemini": {"model": "m", "systemInstruction": {"parts": [{"text": "s"}]},
     "contents": [{"role": "user",
       "parts": [{"text": "t"}, {"inlineData": {"mimeType": "image/png", "data": _PNG, "displayName": "n"}},
        {"inlineData": {"mimeType": "text/plain", "data": "aGk="}},
        {"fileData": {"fileUri": "http://h/f", "mimeType": "text/plain"}}, {"later": {"deep": ["w"]}}]},
      {"role": "model", "parts": [{"text": "hm", "thought": True, "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "c1", "name": "f", "args": {"q": {"deep": ["a"]}}}},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}]},
      {"role": "user",
       "parts": [{"functionResponse": {"id": "c1", "name": "f", "response": {"result": "r"}}}]}],
     "tools": [{"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": _SCHEMA}]},
      {"googleSearch": {"x": "y"}}],
     "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
     "generationConfig": {"stopSequences": ["end"], "responseJsonSchema": _SCHEMA, "x": "y"},
     "safetySettings": [{"category": "c", "threshold": "t"}], "cachedContent": "c", "labels": {"k": "v"}},
    "ollama": {"model": "m", "messages": [{"role": "system", "content": "s"},
      {"role": "user", "content": "t", "images": [_PNG], "x": {"y": "z"}},
      {"role": "assistant", "content": "a", "thinking": "hm",
       "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"q": {"deep": ["a"]}}}}]},
      {"role": "tool", "tool_name": "f", "tool_call_id": "c1", "content": "r"}],
     "tools": [{"type": "function", "function": _FUNCTION}], "format": _SCHEMA,
     "options": {"stop": ["end"], "x": "y"}, "keep_alive": "5m", "think": "low"},
}  # fmt: skip
"""A document of each dialect with something in each place that its agents use."""


def with_each_leaf(document: Any, text: str) -> Iterator[tuple[str, Any]]:
    """Yield the document once for each string and each member's name (path: `~`), with `text` in its place."""
    for path in _leaves(document):
        copy = deepcopy(document)
        into = copy
        for step in path[:-1]:
            into = into[step]
        if isinstance(last := path[-1], _Name):
            members = list(into.items())
            into.clear()
            into.update((text if name == last else name, value) for name, value in members)
        else:
            into[last] = text
        yield ".".join([f"{step}~" if isinstance(step, _Name) else str(step) for step in path]), copy


class _Name(str):
    """A member's name, where it is the leaf."""


def _leaves(value: Any) -> Iterator[tuple[Any, ...]]:
    match value:
        case str():
            yield ()
        case dict():
            for name, inner in value.items():
                yield (_Name(name),)
                yield from ((name, *path) for path in _leaves(inner))
        case list():
            for number, inner in enumerate(value):
                yield from ((number, *path) for path in _leaves(inner))
