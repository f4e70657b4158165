"""Wire documents by hand: what a general HTTP mock wants beside its tests. For pytest-httpx2, pytest-httpserver."""

import json


def completion(content=None, tool=None):
    """OpenAI's chat completion: a text, or a call of a tool (name, arguments)."""
    message = {"role": "assistant", "content": content}
    if tool:
        function = {"name": tool[0], "arguments": json.dumps(tool[1])}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-5-mini"}
    return head | {"choices": [choice], "usage": usage}


def completion_chunk(text):
    """One event of a streamed chat completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini"}
    return f"data: {json.dumps(head | {'choices': [choice]})}\n\n"


def response_call(name, arguments):
    """A call of a tool, in OpenAI's Responses."""
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "completed"}
    call |= {"name": name, "arguments": json.dumps(arguments)}
    head = {"id": "r1", "object": "response", "created_at": 1, "model": "gpt-5-mini", "status": "completed"}
    rest = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    return head | rest | {"output": [call]}


def claude_stream(*texts):
    """Anthropic's stream of a text message, as one string."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m1", "type": "message", "role": "assistant", "model": "claude-sonnet-5"}
    message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    deltas = [{"type": "text_delta", "text": text} for text in texts]
    events = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def embeddings(texts, embed):
    """Vectors for these texts, by a function of the test's."""
    data = [
        {"object": "embedding", "index": index, "embedding": embed(text)} for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}


def error(message, kind):
    """OpenAI's error document."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
