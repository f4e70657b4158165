"""The help desk, tested with triocept: a real server, that speaks what the application speaks."""

import application

from triocept import ToolCall
from triocept.handlers import Fault, Stream

LAMP = application.ORDERS["A-17"]


def test_a_question_is_answered(triocept_model):
    model = triocept_model("At nine.")
    assert application.answer("When do you open?") == "At nine."
    (asked,) = model.calls
    assert asked.system == "Answer in one sentence."
    assert asked.last.text == "When do you open?"


def test_a_tool_is_called_and_its_result_goes_back(triocept_model):
    model = triocept_model(ToolCall.of("find_order", number="A-17"), "It broke.")
    assert application.answer_about_order("Where is A-17?") == "It broke."
    assert model.calls[-1].tool_results[0].text == LAMP


def test_a_busy_model_is_asked_again(triocept_model):
    triocept_model(Fault.status(429, retry_after=0.001), "At five.")
    assert application.answer("When do you close?") == "At five."


def test_a_stream_that_is_cut_keeps_what_came(triocept_model):
    triocept_model(Fault.cut(after=3, answer="We open at nine."))
    assert "".join(application.stream_answer("When?")) == "We open at [the line broke]"


def test_a_letter_is_sorted_by_a_schema(triocept_model):
    ticket = application.Ticket(team="repairs", urgent=True)
    model = triocept_model(ticket.model_dump_json())
    assert application.sort_letter("My lamp burns!") == ticket
    assert model.calls[0].output_format.name == "Ticket"


def test_the_nearest_article_is_found(triocept_model):
    triocept_model()  # equal words have near vectors
    assert application.find_article("Where is my money?", ["Opening", "Your money back"]) == "Your money back"


def test_a_wrong_key_is_reported(triocept_model):
    triocept_model(Fault.status(401))
    assert application.answer("When do you open?") == "The desk is closed: its key is wrong."


async def test_a_letter_is_written_piece_by_piece(triocept_model):
    model = triocept_model(Stream("Dear ", "customer"))
    assert [text async for text in application.write_letter("a lamp")] == ["Dear ", "customer"]
    assert model.calls[0].system == "You write letters."


def test_the_chain_translates(triocept_model):
    model = triocept_model("Guten Tag")
    assert application.translate("Good day", "German") == "Guten Tag"
    assert model.calls[0].system == "Translate to German."


async def test_the_agent_looks_before_it_decides(triocept_model):
    decision = {"refund": 40, "reason": "broken"}
    look, decide = ToolCall.of("find_order", number="A-17"), ToolCall.of("final_result", **decision)
    model = triocept_model(look, decide)
    assert await application.decide("A-17") == application.Decision(**decision)
    assert model.calls[-1].tool_results[0].text == LAMP
