"""The help desk, tested with pytest-httpx2: the HTTP client is patched, and the wire documents are the test's."""

import json

import application
import httpx
import httpx2
import pytest
import wire

CHAT = "https://api.openai.com/v1/chat/completions"
LAMP = application.ORDERS["A-17"]


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")


def sent(call):
    return json.loads(call.request.content)


class Cut(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def __iter__(self):
        yield from (piece.encode() for piece in self.pieces)
        raise httpx2.RemoteProtocolError("peer closed connection")


def test_a_question_is_answered(httpx2_mock):
    route = httpx2_mock.post(CHAT).respond(json=wire.completion("At nine."))
    assert application.answer("When do you open?") == "At nine."
    system, user = sent(route.calls.last)["messages"]
    assert system == {"role": "system", "content": "Answer in one sentence."}
    assert user == {"role": "user", "content": "When do you open?"}


def test_a_tool_is_called_and_its_result_goes_back(httpx2_mock):
    call = wire.completion(tool=("find_order", {"number": "A-17"}))
    replies = [httpx.Response(200, json=each) for each in (call, wire.completion("It broke."))]
    route = httpx2_mock.post(CHAT).mock(side_effect=replies)
    assert application.answer_about_order("Where is A-17?") == "It broke."
    assert sent(route.calls.last)["messages"][-1]["content"] == LAMP


def test_a_busy_model_is_asked_again(httpx2_mock):
    busy = httpx.Response(429, headers={"retry-after-ms": "1"}, json=wire.error("Slow down", "rate_limit"))
    httpx2_mock.post(CHAT).mock(side_effect=[busy, httpx.Response(200, json=wire.completion("At five."))])
    assert application.answer("When do you close?") == "At five."


def test_a_stream_that_is_cut_keeps_what_came(httpx2_mock):
    body = Cut(wire.completion_chunk("We open "), wire.completion_chunk("at "))
    httpx2_mock.post(CHAT).respond(headers={"content-type": "text/event-stream"}, stream=body)
    assert "".join(application.stream_answer("When?")) == "We open at  [the line broke]"


def test_a_letter_is_sorted_by_a_schema(httpx2_mock):
    ticket = application.Ticket(team="repairs", urgent=True)
    route = httpx2_mock.post(CHAT).respond(json=wire.completion(ticket.model_dump_json()))
    assert application.sort_letter("My lamp burns!") == ticket
    assert sent(route.calls.last)["response_format"]["json_schema"]["name"] == "Ticket"


def test_the_nearest_article_is_found(httpx2_mock):
    def answer(request):
        texts = json.loads(request.content)["input"]
        return httpx.Response(
            200, json=wire.embeddings(texts, lambda text: [1, 0] if "money" in text else [0, 1])
        )

    httpx2_mock.post("https://api.openai.com/v1/embeddings").mock(side_effect=answer)
    assert application.find_article("Where is my money?", ["Opening", "Your money back"]) == "Your money back"


def test_a_wrong_key_is_reported(httpx2_mock):
    httpx2_mock.post(CHAT).respond(401, json=wire.error("Incorrect API key", "invalid_request_error"))
    assert application.answer("When do you open?") == "The desk is closed: its key is wrong."


async def test_a_letter_is_written_piece_by_piece(httpx2_mock):
    route = httpx2_mock.post("https://api.anthropic.com/v1/messages").respond(
        headers={"content-type": "text/event-stream"}, text=wire.claude_stream("Dear ", "customer")
    )
    assert [text async for text in application.write_letter("a lamp")] == ["Dear ", "customer"]
    assert sent(route.calls.last)["system"] == "You write letters."


def test_the_chain_translates(httpx2_mock):
    route = httpx2_mock.post(CHAT).respond(json=wire.completion("Guten Tag"))
    assert application.translate("Good day", "German") == "Guten Tag"
    assert sent(route.calls.last)["messages"][0]["content"] == "Translate to German."


async def test_the_agent_looks_before_it_decides(httpx2_mock):
    decision = {"refund": 40, "reason": "broken"}
    calls = [
        wire.response_call("find_order", {"number": "A-17"}),
        wire.response_call("final_result", decision),
    ]
    route = httpx2_mock.post("https://api.openai.com/v1/responses").mock(
        side_effect=[httpx.Response(200, json=call) for call in calls]
    )
    assert await application.decide("A-17") == application.Decision(**decision)
    assert sent(route.calls.last)["input"][-1]["output"] == LAMP
