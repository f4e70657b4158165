"""What is recorded from a real model is what is answered from then on, in every dialect."""

import re
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.asking import ask
from tests.testing.recorded_agents import asking, asks, real_model, texts
from triocept import (
    Exchange,
    Message,
    Request,
    Response,
    ScriptedModel,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    serve_endpoint,
)
from triocept.errors import DialectError, RecordingFailed, ReplayMiss
from triocept.handlers import Fault
from triocept.testing import (
    Cassette,
    RecordMode,
    fake_model,
    normalize,
    open_cassette,
    open_memory_agent,
    use_cassette,
)
from triocept.traces import Redaction

TALKING = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama")
SEARCH = Tool(
    name="search",
    description="Searches.",
    parameters={"type": "object", "properties": {"q": {"type": "string"}}},
)
CALL = ToolCall.of("search", q="trio")
QUESTION = Message("user", (Text("Look it up."),))


async def echo(exchange: Exchange) -> None:
    await exchange.respond(f"you said {exchange.request.last.text}")


async def never(exchange: Exchange) -> None:
    raise AssertionError("nobody is to be asked")


async def test_what_was_recorded_is_answered_without_the_model_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "a new folder" / "run.yaml"
    async with real_model(echo) as upstream:
        async with open_cassette(path, record="once", upstream=upstream) as cassette:
            assert texts(await asking(cassette, asks("a"), asks("b"))) == ["you said a", "you said b"]
            assert [str(call) for call in cassette.recorded] == [
                "call 0 (recorded in this run): user 'a'",
                "call 0 (recorded in this run): user 'b'",
            ]
    async with open_cassette(path) as cassette:
        assert texts(await asking(cassette, asks("b"))) == ["you said b"]
        assert [str(call) for call in cassette.unused] == [f"call 1 ({path}:4): user 'a'"]
        assert texts(await asking(cassette, asks("a"))) == ["you said a"]
        assert cassette.unused == ()
        assert [call.number for call in cassette.calls] == [1, 2]


async def record_a_tool_loop(path: Path, dialect: str = "openai_chat", *, stream: bool = False) -> None:
    call = Response.of("I look.", CALL)
    async with real_model(ScriptedModel([call, "Found."]), dialect) as upstream:
        async with open_cassette(path, record="rewrite", upstream=upstream) as cassette:
            await asking(cassette, *tool_loop("call_1"), dialect=dialect, stream=stream)


def tool_loop(identity: str) -> list[object]:
    """Both calls of an application with a tool; its results come in another order than in the call."""
    called = Message("assistant", (Text("I look."), ToolCall("search", '{"q": "trio"}', identity)))
    result = Message("tool", (ToolResult(id=identity, name="search", content=(Text('{"b":1, "a":[2]}'),)),))
    system = Message("system", (Text("Be brief."),))
    return [
        asks(messages=(system, QUESTION), tools=(SEARCH,)),
        asks(messages=(system, QUESTION, called, result), tools=(SEARCH,)),
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("recorded", ["openai_chat", "anthropic_messages"])
@pytest.mark.parametrize("dialect", TALKING)
async def test_one_cassette_answers_every_dialect(
    recorded: str, dialect: str, stream: bool, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    await record_a_tool_loop(path, recorded, stream=stream)
    async with open_cassette(path) as cassette:
        first, second = await asking(cassette, *tool_loop("another_id"), dialect=dialect, stream=stream)
        assert cassette.unused == ()
    (call,) = first.response.tool_calls
    assert (first.response.text, call.name, call.parsed()) == ("I look.", "search", {"q": "trio"})
    assert first.response.stopped == "tool_use"
    assert second.response.text == "Found."


async def test_of_calls_that_ask_the_same_each_gets_the_next_answer(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    async with real_model(ScriptedModel(["one", "two", "other"])) as upstream:
        async with open_cassette(path, record="once", upstream=upstream) as cassette:
            await asking(cassette, asks("a"), asks("a"), asks("b"))
    async with open_cassette(path) as cassette:
        assert texts(await asking(cassette, asks("a"), asks("b"), asks("a"))) == ["one", "other", "two"]
        with pytest.raises(ReplayMiss, match=rf"contains it twice, the last time as call 2 \({path}:14\)"):
            await asking(cassette, asks("a"))
    async with open_cassette(path, repeats=True) as cassette:
        assert texts(await asking(cassette, *[asks("a")] * 4)) == ["one", "two", "two", "two"]


async def test_calls_at_once_get_their_own(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    names = [f"task {number}" for number in range(8)]
    heard: dict[str, str] = {}

    async def ask_one(cassette: object, name: str) -> None:
        heard[name] = texts(await asking(cassette, asks(name)))[0]  # type: ignore[arg-type]

    async with real_model(echo) as upstream:
        for options in ({"record": "once", "upstream": upstream}, {}):
            async with open_cassette(path, **options) as cassette:  # type: ignore[arg-type]
                async with trio.open_nursery() as nursery:
                    for name in names:
                        nursery.start_soon(ask_one, cassette, name)
            assert heard == {name: f"you said {name}" for name in names}
            heard.clear()


async def test_none_records_nothing_and_once_records_only_where_there_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(
        ReplayMiss, match=r"not recorded: there is no file .*run\.yaml\.\nRecord the call with.*=once"
    ):
        async with open_cassette(path, upstream=never) as cassette:
            await asking(cassette, asks())
    assert not path.exists()
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, asks("a"))
    before = path.read_bytes()
    with pytest.raises(ReplayMiss, match="record='once' records nothing if the file exists"):
        async with open_cassette(path, record="once", upstream=never) as cassette:
            assert texts(await asking(cassette, asks("a"))) == ["you said a"]
            await asking(cassette, asks("b"))
    assert path.read_bytes() == before


async def test_new_answers_what_is_there_and_adds_what_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="new", upstream=echo) as cassette:
        await asking(cassette, asks("a"), asks("b"))
    before = path.read_text()
    async with open_cassette(path, record="new", upstream=never) as cassette:
        await asking(cassette, asks("b"))
    assert path.read_text() == before
    async with open_cassette(path, record="new", upstream=ScriptedModel(["new", "again"])) as cassette:
        assert texts(await asking(cassette, asks("c"), asks("a"), asks("a"))) == [
            "new",
            "you said a",
            "again",
        ]
    after = path.read_text()
    assert after.startswith(before.removesuffix("...\n"))
    async with open_cassette(path) as cassette:
        assert [call.number for call in cassette.calls] == [1, 2, 3, 4]
        assert texts(await asking(cassette, asks("a"), asks("a"))) == ["you said a", "again"]


async def test_rewrite_forgets_all(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, asks("a"), asks("b"))
    async with open_cassette(path, record="rewrite", upstream=ScriptedModel(["new"])) as cassette:
        assert texts(await asking(cassette, asks("a"))) == ["new"]
    async with open_cassette(path) as cassette:
        assert [call.request.messages[0].text for call in cassette.calls] == ["a"]
    async with open_cassette(path, record="rewrite", upstream=never):
        pass
    assert path.read_text().endswith("calls: []\n...\n")


async def test_the_same_recorded_again_gives_the_same_file_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    usage = Usage(input_tokens=7, output_tokens=3)
    for _ in range(2):
        answers = [Response((CALL,), usage=usage), "two", "three"]
        async with real_model(ScriptedModel(answers)) as upstream:
            async with open_cassette(path, record="rewrite", upstream=upstream) as cassette:
                await asking(cassette, *tool_loop("x"), asks("b"), stream=True)
        before, inode = path.read_bytes(), path.stat().st_ino
    assert (path.read_bytes(), path.stat().st_ino) == (before, inode)


async def test_what_has_changed_is_all_that_differs_in_a_file_that_is_recorded_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, asks("a"), asks("b"), asks("c"))
    before = path.read_text().splitlines()
    async with open_cassette(path, record="rewrite", upstream=echo) as cassette:
        await asking(cassette, asks("c"), asks("new"), asks("a"))
    after = path.read_text().splitlines()
    assert len(after) == len(before)
    differing = [(old.strip(), new.strip()) for old, new in zip(before, after, strict=True) if old != new]
    said = [pair for pair in differing if not pair[0].startswith("seconds")]
    assert said == [("- user: b", "- user: new"), ("content: you said b", "content: you said new")]


async def test_a_body_that_fails_or_is_cancelled_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(KeyError):
        async with open_cassette(path, record="once", upstream=echo) as cassette:
            await asking(cassette, asks("a"))
            raise KeyError
    with trio.CancelScope() as scope:
        async with open_cassette(path, record="once", upstream=echo) as cassette:
            await asking(cassette, asks("a"))
            scope.cancel()
            await trio.sleep_forever()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("record", ["once", "new"])
async def test_two_that_add_to_one_file_at_once_lose_nothing_and_add_nothing_twice(
    record: RecordMode, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    if record == "new":
        async with open_cassette(path, record="new", upstream=echo) as cassette:
            await asking(cassette, asks("a"))
    async with open_cassette(path, record=record, upstream=echo) as one:
        async with open_cassette(path, record=record, upstream=echo) as other:
            await asking(one, asks("a"), asks("b"), asks("c"), asks("c"))
            await asking(other, asks("a"), asks("c"), asks("d"))
    said = [call.request.messages[0].text for call in Cassette(path).calls]
    assert sorted(said) == ["a", "b", "c", "c", "d"]
    assert [call.number for call in Cassette(path).calls] == [1, 2, 3, 4, 5]


async def test_several_may_record_one_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, asks("old"))
    for keep, text in ((False, "a"), (True, "b"), (True, "a")):
        cassette = Cassette(path, record="rewrite", upstream=echo)
        await asking(cassette, asks(text))
        assert cassette.write(keep=keep) == (text == "b" or not keep)
    assert [call.request.messages[0].text for call in Cassette(path).calls] == ["a", "b"]


async def test_what_somebody_has_written_meanwhile_and_is_no_cassette_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(DialectError, match=f"{path}:1: this file is not a cassette"):
        async with open_cassette(path, record="once", upstream=echo) as cassette:
            await asking(cassette, asks("a"))
            path.write_text("mine\n...\n")
    assert path.read_text() == "mine\n...\n"


async def test_a_place_where_nothing_can_be_written_is_told_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file"):
        Cassette(tmp_path / "file" / "a" / "run.yaml", record="once", upstream=echo)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=re.escape(str(tmp_path))):
        Cassette(tmp_path / "a" / "run.yaml", record="once", upstream=echo)
    Cassette(tmp_path / "a" / "run.yaml")


async def test_answers_that_were_given_back_are_given_in_their_order(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "run.yaml"

    async def slow(exchange: Exchange) -> None:
        await trio.sleep(30)
        await exchange.respond(f"{number}")

    for number in (1, 2):
        async with open_cassette(path, record="once" if number == 1 else "new", upstream=slow) as cassette:
            async with open_memory_agent(cassette) as agent:
                for _ in range(number):
                    await agent.ask("hi")
    async with open_cassette(path, timing="recorded") as cassette, open_memory_agent(cassette) as agent:
        scopes = []

        async def hang_up_later() -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                await agent.ask("hi")

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(hang_up_later)
                await trio.testing.wait_all_tasks_blocked()
            for scope in scopes:
                scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
        assert [(await agent.ask("hi")).text for _ in range(2)] == ["1", "2"]


async def test_nothing_asked_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for record in ("once", "new", "rewrite"):
        async with open_cassette(path, record=record, upstream=never):  # type: ignore[arg-type]
            pass
    assert not path.exists()


async def test_a_model_counts_without_its_date_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, asks("a", model="gpt-4o-2024-08-06"))
    async with open_cassette(path) as cassette:
        await asking(cassette, asks("a", model="gpt-4o"))
        assert cassette.unused == ()
        with pytest.raises(ReplayMiss, match=r"- model: gpt-4o\n\+ model: claude"):
            await asking(cassette, asks("a", model="claude"))
    async with open_cassette(path, compare_model=False) as cassette:
        await asking(cassette, asks("a", model="claude"))
        assert cassette.unused == ()
        with pytest.raises(ReplayMiss) as raised:
            await asking(cassette, asks("b", model="claude"))
    assert "model:" not in raised.value.difference


async def test_texts_are_normalised_on_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    here, there = tmp_path / "here", tmp_path / "there"
    async with open_cassette(path, record="once", upstream=echo, normalise_text=normalize(here)) as cassette:
        await asking(cassette, asks(f"On 2026-11-26 in {here}/a"))
    assert "- user: On <date> in <root>/a" in path.read_text()
    async with open_cassette(path, normalise_text=normalize(there)) as cassette:
        await asking(cassette, asks(f"On 2027-01-01 in {there}/a"))
        assert cassette.unused == ()
    path.write_text(
        path.read_text().replace("<date>", "2001-01-01")
    )  # as it was before somebody had the function
    async with open_cassette(path, normalise_text=normalize(there)) as cassette:
        await asking(cassette, asks(f"On 2027-01-01 in {there}/a"))


async def test_texts_are_normalised_wherever_they_stand(tmp_path: Path) -> None:
    def of_day(day: str) -> Request:
        call = ToolCall("search", f'{{"q": "{day}"}}', "x")
        results = (
            ToolResult(id="x", content=(Text(f'{{"found": ["{day}"]}}'),)),
            ToolResult(id="y", content=(Text(f"on {day}"),)),
        )
        messages = (
            QUESTION,
            Message("assistant", (call, ToolCall("now", "{}", "y"))),
            Message("tool", results),
        )
        return asks(messages=messages, tools=(Tool(name="search", description=f"As of {day}."),))

    path = tmp_path / "run.yaml"
    for day, options in (("2026-11-26", {"record": "once", "upstream": echo}), ("2026-11-27", {})):
        async with open_cassette(path, normalise_text=normalize(), **options) as cassette:  # type: ignore[arg-type]
            assert [each.status for each in await asking(cassette, of_day(day))] == [200]
    assert path.read_text().count("<date>") == 4
    assert "2026" not in path.read_text()


async def test_requests_are_normalised_on_both_sides(tmp_path: Path) -> None:
    import msgspec

    def without_system(request: Request) -> Request:
        return msgspec.structs.replace(
            request, messages=tuple([each for each in request.messages if each.role != "system"])
        )

    path = tmp_path / "run.yaml"
    loop = tool_loop("x")
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, loop[0])  # type: ignore[arg-type]
    async with open_cassette(path, normalise=without_system) as cassette:
        await asking(cassette, asks(messages=(QUESTION,), tools=(SEARCH,)))
        assert cassette.unused == ()


async def test_a_function_that_changes_what_it_has_given_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must return their own results unchanged"):
        async with open_cassette(
            tmp_path / "run.yaml", record="once", upstream=echo, normalise_text=lambda text: text + "!"
        ) as cassette:
            await asking(cassette, asks())


def test_a_sync_application_is_recorded_and_answered(tmp_path: Path) -> None:
    from tests.testing.applications import asked

    path = tmp_path / "run.yaml"
    for options in ({"record": "once", "upstream": echo}, {}):
        with use_cassette(path, **options) as cassette, fake_model(handler=cassette) as model:  # type: ignore[arg-type]
            assert asked("a") == "you said a"
        assert model.trace[0].notes["cassette"]["file"] == str(path)


def test_a_sync_application_that_asks_what_is_not_there_is_told_at_the_end(tmp_path: Path) -> None:
    import openai

    from tests.testing.applications import asked

    with pytest.raises(ReplayMiss, match="--triocept-record=once"):
        with use_cassette(tmp_path / "run.yaml") as cassette, fake_model(handler=cassette):
            with pytest.raises(openai.InternalServerError):
                asked("a")


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"record": "all"}, ValueError, "record must be 'none', 'once', 'new' or 'rewrite', not 'all'"),
    ({"record": "once"}, TypeError, "needs a real model to record from, because there is no file "),
    ({"record": "new"}, TypeError, "record='new' needs a real model to record from: pass upstream="),
    ({"upstream": "https://api.openai.com"}, TypeError, "a handler must be"),
    ({"normalise": "a"}, TypeError, "normalise must be a function that takes a Request and returns one"),
    ({"normalise_text": echo}, TypeError, "must not be async"),
    ({"timing": "fast"}, ValueError, "timing"),
    ({"timing": -1}, ValueError, "timing"),
    ({"repeats": 1}, TypeError, "repeats must be a bool"),
    ({"repeat": True}, TypeError, "repeat"),
])  # fmt: skip
async def test_wrong_arguments_are_told_where_they_are_given(
    options: dict[str, object], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        async with open_cassette(tmp_path / "run.yaml", **options):  # type: ignore[arg-type]
            pass


async def test_the_file_is_where_it_was_said_though_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    async with open_cassette("run.yaml", record="once", upstream=echo) as cassette:
        await asking(cassette, asks("a"))
        monkeypatch.chdir("elsewhere")
    assert (tmp_path / "run.yaml").exists()


async def test_raw_bytes_are_not_recorded_and_that_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    fault = Fault.cut(after=1)
    with pytest.raises(RecordingFailed, match=r"answered with raw bytes.*chaos\(cassette, …\)"):
        async with open_cassette(path, record="once", upstream=fault) as cassette:
            await asking(cassette, asks("a"), stream=True)
    assert not path.exists()


async def test_writing_again_writes_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="new", upstream=echo) as cassette:
        await asking(cassette, asks("a"), asks("b"))
        assert cassette.write()
        before = path.read_bytes()
        assert not cassette.write()
        await asking(cassette, asks("c"))
    assert path.read_bytes().startswith(before.removesuffix(b"...\n"))
    assert len(Cassette(path).calls) == 3


async def test_one_cassette_answers_several_rollouts(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, asks("a"))
        await asking(cassette, asks("b"), dialect="gemini")
    async with open_cassette(path) as cassette:
        await asking(cassette, asks("b"))
        await asking(cassette, asks("a"), dialect="ollama")
        assert cassette.unused == ()


async def test_what_a_rollout_redacts_is_in_no_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    redact = Redaction([r"Ann|Bob"])
    for name, options in (("Ann", {"record": "once", "upstream": echo}), ("Bob", {})):
        async with open_cassette(path, **options) as cassette:  # type: ignore[arg-type]
            async with (
                serve_endpoint() as endpoint,
                endpoint.open_rollout(cassette, redact=redact) as rollout,
            ):
                assert (await ask(rollout, f"I am {name}")).status_code == 200
            assert cassette.unused == ()
    assert "user: I am [redacted]" in path.read_text()
