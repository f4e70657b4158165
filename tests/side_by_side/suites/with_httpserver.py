"""The help desk, tested with pytest-httpserver: a real server, and the wire documents are the test's."""

import application
import pytest
import wire
from werkzeug import Response

CHAT = "/v1/chat/completions"
LAMP = application.ORDERS["A-17"]
EVENTS = "text/event-stream"


@pytest.fixture(autouse=True)
def environment(monkeypatch, httpserver):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", httpserver.url_for("/v1"))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", httpserver.url_for(""))
    yield
    httpserver.check()


def last_sent(httpserver):
    return httpserver.log[-1][0].json


def test_a_question_is_answered(httpserver):
    httpserver.expect_oneshot_request(CHAT).respond_with_json(wire.completion("At nine."))
    assert application.answer("When do you open?") == "At nine."
    system, user = last_sent(httpserver)["messages"]
    assert system == {"role": "system", "content": "Answer in one sentence."}
    assert user == {"role": "user", "content": "When do you open?"}


def test_a_tool_is_called_and_its_result_goes_back(httpserver):
    call = wire.completion(tool=("find_order", {"number": "A-17"}))
    httpserver.expect_ordered_request(CHAT).respond_with_json(call)
    httpserver.expect_ordered_request(CHAT).respond_with_json(wire.completion("It broke."))
    assert application.answer_about_order("Where is A-17?") == "It broke."
    assert last_sent(httpserver)["messages"][-1]["content"] == LAMP


def test_a_busy_model_is_asked_again(httpserver):
    httpserver.expect_ordered_request(CHAT).respond_with_json(
        wire.error("Slow down", "rate_limit"), status=429, headers={"retry-after-ms": "1"}
    )
    httpserver.expect_ordered_request(CHAT).respond_with_json(wire.completion("At five."))
    assert application.answer("When do you close?") == "At five."


def test_a_stream_that_is_cut_keeps_what_came(httpserver):
    body = [wire.completion_chunk("We open "), wire.completion_chunk("at ")]
    more = {"content-length": "1000"}  # than there is: the client sees that the body breaks off
    httpserver.expect_oneshot_request(CHAT).respond_with_response(
        Response(iter(body), headers=more, content_type=EVENTS)
    )
    assert "".join(application.stream_answer("When?")) == "We open at  [the line broke]"


def test_a_letter_is_sorted_by_a_schema(httpserver):
    ticket = application.Ticket(team="repairs", urgent=True)
    httpserver.expect_oneshot_request(CHAT).respond_with_json(wire.completion(ticket.model_dump_json()))
    assert application.sort_letter("My lamp burns!") == ticket
    assert last_sent(httpserver)["response_format"]["json_schema"]["name"] == "Ticket"


def test_the_nearest_article_is_found(httpserver):
    def answer(request):
        vectors = wire.embeddings(request.json["input"], lambda text: [1, 0] if "money" in text else [0, 1])
        return Response(wire.json.dumps(vectors), content_type="application/json")

    httpserver.expect_oneshot_request("/v1/embeddings").respond_with_handler(answer)
    assert application.find_article("Where is my money?", ["Opening", "Your money back"]) == "Your money back"


def test_a_wrong_key_is_reported(httpserver):
    wrong = wire.error("Incorrect API key", "invalid_request_error")
    httpserver.expect_oneshot_request(CHAT).respond_with_json(wrong, status=401)
    assert application.answer("When do you open?") == "The desk is closed: its key is wrong."


async def test_a_letter_is_written_piece_by_piece(httpserver):
    httpserver.expect_oneshot_request("/v1/messages").respond_with_data(
        wire.claude_stream("Dear ", "customer"), content_type=EVENTS
    )
    assert [text async for text in application.write_letter("a lamp")] == ["Dear ", "customer"]
    assert last_sent(httpserver)["system"] == "You write letters."


def test_the_chain_translates(httpserver):
    httpserver.expect_oneshot_request(CHAT).respond_with_json(wire.completion("Guten Tag"))
    assert application.translate("Good day", "German") == "Guten Tag"
    assert last_sent(httpserver)["messages"][0]["content"] == "Translate to German."


async def test_the_agent_looks_before_it_decides(httpserver):
    decision = {"refund": 40, "reason": "broken"}
    for call in ("find_order", {"number": "A-17"}), ("final_result", decision):
        httpserver.expect_ordered_request("/v1/responses").respond_with_json(wire.response_call(*call))
    assert await application.decide("A-17") == application.Decision(**decision)
    assert last_sent(httpserver)["input"][-1]["output"] == LAMP
