"""The help desk, tested with aimock-pytest: a server of its own (Node), whose fixtures are matched on content."""

import application
import pytest

LAMP = application.ORDERS["A-17"]


@pytest.fixture
def model(aimock_session, monkeypatch):
    """One server for all tests, and nothing of the last one in it."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{aimock_session.base_url}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", aimock_session.base_url)
    return aimock_session.reset()


def last_messages(model):
    return model.get_last_request()["body"]["messages"]


def test_a_question_is_answered(model):
    model.on_message("open", {"content": "At nine."})
    assert application.answer("When do you open?") == "At nine."
    system, user = last_messages(model)
    assert system == {"role": "system", "content": "Answer in one sentence."}
    assert user == {"role": "user", "content": "When do you open?"}


def test_a_tool_is_called_and_its_result_goes_back(model):
    call = {"name": "find_order", "arguments": {"number": "A-17"}}
    model.on_message("A-17", {"toolCalls": [call]}, hasToolResult=False)
    model.on_message("A-17", {"content": "It broke."}, hasToolResult=True)
    assert application.answer_about_order("Where is A-17?") == "It broke."
    assert last_messages(model)[-1]["content"] == LAMP


def test_a_busy_model_is_asked_again(model):
    busy = {"error": {"message": "Slow down", "type": "rate_limit"}, "status": 429}
    model.on_message("close", busy, sequenceIndex=0)
    model.on_message("close", {"content": "At five."}, sequenceIndex=1)
    assert application.answer("When do you close?") == "At five."


def test_a_stream_that_is_cut_keeps_what_came(model):
    model.on_message("When", {"content": "We open at nine."}, chunkSize=8, truncateAfterChunks=3, latency=30)
    assert "".join(application.stream_answer("When?")) == "We open  [the line broke]"


def test_a_letter_is_sorted_by_a_schema(model):
    ticket = application.Ticket(team="repairs", urgent=True)
    model.on_message("lamp", {"content": ticket.model_dump_json()}, responseFormat="json_schema")
    assert application.sort_letter("My lamp burns!") == ticket
    asked = model.get_last_request()["body"]["response_format"]
    assert asked["json_schema"]["name"] == "Ticket"


@pytest.mark.xfail(
    reason="a fixture gives all texts of a request the same vector, so no text is nearer", strict=True
)
def test_the_nearest_article_is_found(model):
    model.on_embedding("money", {"embedding": [1, 0]})
    assert application.find_article("Where is my money?", ["Opening", "Your money back"]) == "Your money back"


def test_a_wrong_key_is_reported(model):
    wrong = {"message": "Incorrect API key", "type": "invalid_request_error"}
    model.next_error(401, wrong)
    assert application.answer("When do you open?") == "The desk is closed: its key is wrong."


async def test_a_letter_is_written_piece_by_piece(model):
    model.on_message("lamp", {"content": "Dear customer"}, chunkSize=5)
    assert [text async for text in application.write_letter("a lamp")] == ["Dear ", "custo", "mer"]
    assert last_messages(model)[0] == {"role": "system", "content": "You write letters."}


def test_the_chain_translates(model):
    model.on_message("Good day", {"content": "Guten Tag"})
    assert application.translate("Good day", "German") == "Guten Tag"
    assert last_messages(model)[0]["content"] == "Translate to German."


async def test_the_agent_looks_before_it_decides(model):
    decision = {"refund": 40, "reason": "broken"}
    look = {"name": "find_order", "arguments": {"number": "A-17"}}
    decide = {"name": "final_result", "arguments": decision}
    model.on_message("A-17", {"toolCalls": [look]}, hasToolResult=False)
    model.on_message("A-17", {"toolCalls": [decide]}, hasToolResult=True)
    assert await application.decide("A-17") == application.Decision(**decision)
    assert last_messages(model)[-1]["content"] == LAMP
