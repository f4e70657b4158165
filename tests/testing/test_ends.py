"""Every end of the door: it comes, in bounded time, and in the right words."""

import asyncio
import re
import signal
from contextlib import suppress

import openai
import pytest
import trio

from tests.testing.ends import ended
from triocept.testing import SyncExchange, fake_model

pytestmark = pytest.mark.once


def test_a_body_that_fails_leaves_with_its_own_error() -> None:
    done = ended("""
        with fake_model("hello"):
            asked()
            assert 1 == 2, "mine"
    """)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("AssertionError: mine")
    assert "During handling" not in done.stderr


def test_a_ctrl_c_in_the_body_ends_the_program() -> None:
    done = ended("""
        with fake_model("hello"):
            interrupt()
            time.sleep(20)
    """)
    assert done.returncode == -signal.SIGINT
    assert (
        done.stderr.rstrip()
        .splitlines()[-1]
        .startswith(("KeyboardInterrupt", "triocept: 1 reply", "replies[0]"))
    )


def test_a_ctrl_c_in_a_call_that_waits_ends_the_program() -> None:
    done = ended("""
        def handler(exchange):
            interrupt()
            time.sleep(100)

        with fake_model(handler=handler):
            asked()
    """)
    assert done.returncode == -signal.SIGINT


def test_a_ctrl_c_in_a_wait_for_a_call_ends_the_program() -> None:
    done = ended("""
        with fake_model() as model:
            interrupt_when_main_waits()
            model.next(timeout=None)
    """)
    assert done.returncode == -signal.SIGINT


def test_a_ctrl_c_in_a_wait_for_a_call_loses_none() -> None:
    done = ended("""
        with fake_model() as model:
            interrupt_when_main_waits()
            try:
                model.next(timeout=None)
            except KeyboardInterrupt:
                pass
            application = threading.Thread(target=lambda: print(asked()))
            application.start()
            model.next().respond("had")
            application.join()
    """)
    assert (done.returncode, done.stdout) == (0, "had\n"), done.stderr


def test_a_ctrl_c_at_the_start_ends_the_program() -> None:
    done = ended("""
        interrupt_when_main_waits()
        with fake_model():
            time.sleep(20)
    """)
    assert done.returncode == -signal.SIGINT


def test_a_ctrl_c_at_any_line_leaves_no_thread_no_rollout_and_the_environment_as_it_was() -> None:
    done = ended(
        """
        import itertools
        from tests.testing.ends import interrupt_at

        before, stride = dict(os.environ), 11

        def interrupted(step, endpoint):
            seen = interrupt_at(step)
            try:
                with fake_model(endpoint=endpoint):
                    pass
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            assert dict(os.environ) == before, step
            return seen() >= step

        def until(condition):
            end = time.monotonic() + 10
            while not condition():
                assert time.monotonic() < end
                os.sched_yield()

        for step in itertools.count(1, stride):
            if not interrupted(step, None):
                break
        until(lambda: all(thread.name != "triocept-endpoint" for thread in threading.enumerate()))
        with serve() as endpoint:
            for more in itertools.count(1, stride):
                if not interrupted(more, endpoint):
                    break
            until(lambda: "0 rollouts" in repr(endpoint))
        print(min(step, more) > 300)
        """,
        within=250,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


AT_WORK_AND_ENDING = """
        import trio, triocept.testing._ending

        triocept.testing._ending.AT_WORK = 60
        begun = threading.Barrier(3)

        async def handler(exchange):
            text = exchange.request.messages[-1].text
            if text == "first":
                await exchange.respond("hello")
                await trio.sleep_forever()  # it has answered and runs on, so the end of the block waits for it
            await trio.to_thread.run_sync(begun.wait)
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError(text) if text == "second" else ExceptionGroup("both", [KeyError(text), OSError()])

        def refused(text):
            with contextlib.suppress(openai.APIError):
                asked(text)

        def make_calls():
            asked("first")
            for text in ("second", "third"):
                threading.Thread(target=refused, args=(text,)).start()
            begun.wait()
"""


@pytest.mark.parametrize(
    ("last", "earlier"),
    [("pass", ""), ("raise ValueError('mine')", "ValueError: mine\n.*")],
    ids=["a body that returns", "a body that raises"],
)
def test_a_ctrl_c_during_the_end_of_a_block_shows_the_error_of_each_handler_once(
    last: str, earlier: str
) -> None:
    done = ended(
        AT_WORK_AND_ENDING
        + f"""
        with fake_model(handler=handler) as model:
            make_calls()
            interrupt_when_main_waits()
            {last}
        """
    )
    assert done.returncode == -signal.SIGINT, done.stderr
    note = r"triocept: a handler also failed: (KeyError\('second'\)|ExceptionGroup\('both', .*)"
    assert re.search(rf"{earlier}KeyboardInterrupt\n{note}\n{note}$", done.stderr.rstrip(), re.DOTALL), (
        done.stderr
    )
    assert [done.stderr.count(f"KeyError('{text}')") for text in ("second", "third")] == [1, 1]


@pytest.mark.parametrize("runs", ["asyncio", "trio"])
def test_a_ctrl_c_during_the_end_of_a_block_in_an_async_function_shows_each_error_once(runs: str) -> None:
    """asyncio cancels its main task, which has no effect before the end of the block; trio raises it there."""
    done = ended(
        AT_WORK_AND_ENDING
        + f"""
        async def main():
            with fake_model(handler=handler):
                make_calls()
                interrupt_when_main_waits()

        triocept.testing._ending.AT_WORK = {2 if runs == "asyncio" else 60}
        {runs}.run(main())
        """.replace("trio.run(main())", "trio.run(main)")
    )
    assert done.returncode == (1 if runs == "asyncio" else -signal.SIGINT), done.stderr
    for text in ("second", "third"):
        assert len(re.findall(rf"KeyError(: |\()'{text}'", done.stderr)) == 1, done.stderr


def test_the_error_of_a_handler_is_logged_if_the_body_calls_sys_exit() -> None:
    done = ended("""
        def handler(exchange):
            raise KeyError("city")

        with fake_model(handler=handler):
            with contextlib.suppress(openai.APIError):
                asked()
            sys.exit(3)
    """)
    assert done.returncode == 3
    assert done.stderr.count("KeyError: 'city'") == 1, done.stderr


@pytest.mark.parametrize("embeds", [False, True])
def test_the_error_of_a_handler_leaves_a_block_that_trio_cancels(embeds: bool) -> None:
    def fails(*_: object) -> None:
        raise KeyError("city")

    async def body() -> None:
        with trio.move_on_after(0):
            with fake_model(handler=fails, embed=fails if embeds else None) as model:
                with suppress(openai.APIError):
                    client = model.client("openai_chat")
                    if embeds:
                        client.embeddings.create(model="m", input="x")
                    else:
                        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
                await trio.lowlevel.checkpoint()
        raise AssertionError("the error was lost")

    with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="city")):
        trio.run(body)


def test_the_error_of_a_handler_is_logged_if_asyncio_cancels_its_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(exchange: SyncExchange) -> None:
        raise KeyError("city")

    async def body() -> None:
        with suppress(asyncio.CancelledError), fake_model(handler=fails) as model:
            with suppress(openai.APIError):
                await asyncio.to_thread(
                    model.client("openai_chat").chat.completions.create,
                    model="m",
                    messages=[{"role": "user", "content": "x"}],
                )
            raise asyncio.CancelledError

    asyncio.run(body())
    assert caplog.text.count("KeyError: 'city'") == 1


def test_the_error_of_a_handler_that_has_blocked_the_endpoint_for_too_long_is_logged() -> None:
    done = ended("""
        blocked, free = threading.Event(), threading.Event()

        async def handler(exchange):
            blocked.set()
            free.wait()
            raise KeyError("city")

        def refused():
            with contextlib.suppress(openai.APIError):
                asked()

        application = threading.Thread(target=refused)
        with serve() as endpoint:
            try:
                with fake_model(handler=handler, endpoint=endpoint):
                    application.start()
                    blocked.wait()
            except TimeoutError:
                print("timed out")
                free.set()
                application.join()
    """)
    assert (done.returncode, done.stdout) == (0, "timed out\n"), done.stderr
    assert done.stderr.count("KeyError: 'city'") == 1, done.stderr


def test_a_ctrl_c_at_any_line_of_the_end_loses_no_error_of_a_handler() -> None:
    done = ended(
        """
        import gc, itertools, logging
        from tests.testing.ends import interrupt_at
        from triocept.testing._leaving import chain

        logged = []
        logging.getLogger("triocept.testing").addFilter(lambda record: logged.append(record.exc_info))

        def handler(exchange):
            raise KeyError("city")

        def reports(step):
            # How often the error was reported, and if the end had that many lines
            logged.clear()
            try:
                with endpoint.open_rollout(handler) as model:
                    with contextlib.suppress(openai.APIError):
                        client.chat.completions.create(
                            model="m",
                            messages=[{"role": "user", "content": "hi"}],
                            extra_headers={"authorization": f"Bearer {model.api_key}"},
                        )
                    fault, = model.faults
                    seen = interrupt_at(step)
            except BaseException as exc:
                raised = exc
            finally:
                sys.settrace(None)
            notes = [note for each in chain(raised) for note in getattr(each, "__notes__", [])]
            count = sum(each is fault for each in chain(raised)) + sum(repr(fault) in note for note in notes)
            del raised
            gc.collect()  # interrupted in `__exit__`, before the end has begun: it is logged when the block is closed
            return count + sum(info[1] is fault for info in logged), seen() >= step

        with serve() as endpoint, openai.OpenAI(
            base_url=f"{endpoint.url}/v1", api_key="none", max_retries=0
        ) as client:
            for step in itertools.count(1):
                count, more = reports(step)
                assert count == 1, (step, count)
                if not more:
                    break
        print(step > 50)
        """,
        within=250,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_plain_function_that_blocks_for_ever_holds_nobody_up() -> None:
    done = ended("""
        def handler(exchange):
            threading.Event().wait()

        with fake_model(handler=handler):
            try:
                with openai.OpenAI(max_retries=0, timeout=0.5) as client:
                    client.models.with_raw_response.list()
                    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
            except openai.APITimeoutError:
                print("timed out")
        print("ended")
    """)
    assert (done.returncode, done.stdout) == (0, "timed out\nended\n"), done.stderr


def test_an_async_handler_that_blocks_the_loop_is_named_with_its_line() -> None:
    done = ended("""
        async def sleepy(exchange):
            time.sleep(1000)

        try:
            with fake_model(handler=sleepy):
                try:
                    with openai.OpenAI(max_retries=0, timeout=3) as client:
                        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
                except openai.APITimeoutError:
                    print("timed out")
        except TimeoutError as error:
            print(error)
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "timed out\nthe endpoint has not answered for 5 s: its loop is blocked in sleepy (<string>:"
    )
    assert done.stderr.startswith("sleepy (<string>:"), "the endpoint logs it, too"
    assert done.stderr.count("\n") == 1


def test_a_program_that_never_closes_ends() -> None:
    done = ended("""
        context = fake_model("hello", must_be_used=False)
        model = context.__enter__()
        print(asked())
        sys.exit(0)
    """)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_program_ends_whose_loop_is_blocked_and_that_never_closes() -> None:
    done = ended("""
        blocked = threading.Event()

        async def handler(exchange):
            blocked.set()
            time.sleep(1000)

        context = fake_model(handler=handler)
        context.__enter__()
        threading.Thread(target=asked, daemon=True).start()
        blocked.wait()
        sys.exit(0)
    """)
    assert done.returncode == 0, done.stderr


def test_a_child_that_was_forked_off_unwinds_and_leaves_the_endpoint_alone() -> None:
    done = ended("""
        with fake_model("one", "two") as model:
            print(asked(), flush=True)
            pid = os.fork()
            if pid == 0:
                sys.exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            print(asked())
        print(len(model.trace))
    """)
    assert (done.returncode, done.stdout) == (0, "one\n7\ntwo\n2\n"), done.stderr


def test_a_child_that_was_forked_off_calls_the_endpoint_as_any_client_does() -> None:
    done = ended("""
        with fake_model("one") as model:
            with multiprocessing.get_context("fork").Pool(1) as pool:
                print(pool.apply(asked))
        print(len(model.trace))
    """)
    assert (done.returncode, done.stdout) == (0, "one\n1\n"), done.stderr


def test_a_child_that_was_forked_off_is_told_that_it_has_no_endpoint() -> None:
    done = ended("""
        with fake_model() as model:
            pid = os.fork()
            if pid == 0:
                try:
                    model.next()
                except RuntimeError as error:
                    print(error, flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
    """)
    assert "was forked from it" in done.stdout


def test_a_child_that_was_forked_off_and_lives_on_keeps_no_port() -> None:
    done = ended("""
        from tests.ports import free_port

        end, begin = os.pipe()
        port = free_port()  # none that the kernel could give to another program meanwhile
        with serve(port=port):
            pid = os.fork()
            if pid == 0:
                os.close(begin)
                os.read(end, 1)
                os._exit(0)
        print(accepts(port))
        os.close(begin)
        os.waitpid(pid, 0)
    """)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_doors_nest_and_each_has_its_own_environment() -> None:
    done = ended("""
        before = dict(os.environ)
        with fake_model("outer") as outer:
            with fake_model("inner") as inner:
                print(asked())
            print(asked())
        print(len(outer.trace), len(inner.trace), dict(os.environ) == before)
    """)
    assert (done.returncode, done.stdout) == (0, "inner\nouter\n1 1 True\n"), done.stderr


def test_an_asyncio_program_is_answered_within_its_loop() -> None:
    done = ended("""
        async def main():
            with fake_model("hello", "again") as model:
                async with model.async_client("openai_chat") as client, openai.AsyncOpenAI() as other:
                    for each in (client, other):
                        answer = await each.chat.completions.create(
                            model="m", messages=[{"role": "user", "content": "hi"}]
                        )
                        print(answer.choices[0].message.content)

        asyncio.run(main())
    """)
    assert (done.returncode, done.stdout) == (0, "hello\nagain\n"), done.stderr


def test_a_trio_program_may_have_one_in_its_own_thread() -> None:
    done = ended("""
        import trio

        async def main():
            with fake_model() as model:
                async with trio.open_nursery() as nursery:
                    @nursery.start_soon
                    async def application():
                        async with model.async_client("openai_chat") as client:
                            answer = await client.chat.completions.create(
                                model="m", messages=[{"role": "user", "content": "hi"}]
                            )
                            print(answer.choices[0].message.content)

                    exchange = await model.anext()
                    await trio.to_thread.run_sync(exchange.respond, "hello")

        trio.run(main)
    """)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
