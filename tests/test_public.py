"""The public surface: what stands at the top, what in its modules, and that no signature needs more than that."""

import inspect
import pydoc
import re
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import triocept
from tests.programs import run_python
from triocept import _moved
from triocept.dialects import DIALECTS
from triocept.fleets import Outcome
from triocept.types import AgentOptions, DialectName, EndpointOptions, RolloutOptions

MODULES = [triocept, *(import_module(f"triocept.{name}") for name in (*_moved.MODULES, "dialects.kit"))]
PUBLIC = {f"{module.__name__}.{name}": getattr(module, name) for module in MODULES for name in module.__all__}
SEEN = ("__init__", "__aiter__", "__anext__", "__aenter__", "__call__", "__getitem__", "__iter__")
NAMES = {name: getattr(typing, name) for name in typing.__all__} | {
    name.rpartition(".")[2]: thing for name, thing in PUBLIC.items()
}

REFERENCE = Path(__file__).parents[1] / "docs/reference"
NOT_CONSTRUCTED = {
    name
    for page in REFERENCE.glob("*.md")
    for name in re.findall(r"autoclass:: (?:[\w.]+\.)?(\w+)\(\)", page.read_text())
}
"""Classes whose reference shows no constructor."""


def types_in(hint: object) -> Iterator[type]:
    """The classes that a hint is made of."""
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint
    for part in typing.get_args(hint):
        for one in part if isinstance(part, list | tuple) else [part]:
            yield from types_in(one)


def hints(thing: object) -> Iterator[object]:
    thing = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
    if not callable(thing):
        return
    function = inspect.unwrap(thing)
    own = vars(inspect.getmodule(function)) if inspect.getmodule(function) else {}
    yield from typing.get_type_hints(function, globalns=NAMES | own, localns=NAMES).values()


def signature_types(thing: object) -> Iterator[type]:
    """The classes that whoever uses it has in his hands."""
    shown: list[object] = []
    if isinstance(thing, type):
        made_by_us = thing.__name__ in NOT_CONSTRUCTED
        own = vars(inspect.getmodule(thing) or typing)
        shown += [
            hint
            for name, hint in typing.get_type_hints(thing, globalns=NAMES | own, localns=NAMES).items()
            if not name.startswith("_")
        ]
        for name, member in vars(thing).items():
            if not name.startswith("_") or (name in SEEN and not (name == "__init__" and made_by_us)):
                shown += hints(member)
    elif inspect.isroutine(thing):
        shown += hints(thing)
    for hint in shown:
        yield from types_in(hint)


def test_the_top_level_has_few_names() -> None:
    assert len(triocept.__all__) <= 39


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_what_a_module_says_that_it_has_it_has(module: ModuleType) -> None:
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    for name in module.__all__:
        assert not name.startswith("_")
        assert hasattr(module, name)


@pytest.mark.once  # Python 3.11 cannot evaluate all that checkers read: `array[int]`
def test_every_class_in_a_public_signature_is_public() -> None:
    nested = [member for thing in PUBLIC.values() if thing is Outcome for member in vars(thing).values()]
    public = {id(thing) for thing in (*PUBLIC.values(), *nested)}
    private = {
        (name, kind)
        for name, thing in PUBLIC.items()
        for kind in signature_types(thing)
        if kind.__module__.startswith("triocept") and id(kind) not in public
    }
    assert private == set()


def test_the_names_of_the_dialects_are_those_of_the_package() -> None:
    assert set(typing.get_args(DialectName)) == set(DIALECTS)


def test_the_options_of_an_endpoint_are_the_keywords_of_serve_endpoint() -> None:
    signature = inspect.signature(inspect.unwrap(triocept.serve_endpoint))
    keywords = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    assert keywords == {name: hint.__forward_arg__ for name, hint in EndpointOptions.__annotations__.items()}


def test_what_stands_at_the_top_stands_in_its_module_too() -> None:
    """So that one import can have all that it needs of one kind."""
    for module in (triocept.types, triocept.traces, triocept.errors, triocept.handlers):
        for name in module.__all__:
            assert getattr(triocept, name, getattr(module, name)) is getattr(module, name)


@pytest.mark.parametrize(("name", "place"), [
    ("Reasoning", "triocept.types"),
    ("PartDelta", "triocept.types"),
    ("Recorder", "triocept.traces"),
    ("HostTool", "triocept.types"),
    ("route", "triocept.handlers"),
    ("Unanswered", "triocept.errors"),
])  # fmt: skip
def test_a_name_that_is_in_a_module_is_told_where(name: str, place: str) -> None:
    assert not hasattr(triocept, name)
    with pytest.raises(
        AttributeError, match=rf"'triocept' has no attribute '{name}'; it is now {place}.{name}$"
    ):
        getattr(triocept, name)
    with pytest.raises(ImportError, match=rf"cannot import name '{name}' .*; it is now {place}.{name}$"):
        exec(f"from triocept import {name}")


@pytest.mark.parametrize(("old", "new"), _moved.RENAMED.items())
def test_the_error_of_an_old_name_names_the_new_one(old: str, new: str) -> None:
    module, _, name = old.rpartition(".")
    with pytest.raises(
        AttributeError, match=rf"'{module}' has no attribute '{name}'; it is now {re.escape(new)}$"
    ):
        getattr(import_module(module), name)
    with pytest.raises(ImportError, match=rf"cannot import name '{name}' .*; it is now {re.escape(new)}$"):
        exec(f"from {module} import {name}")
    assert pydoc.locate(new.partition(" ")[0]) is not None


OF_0_2 = {
    "triocept": """
        Agent AgentFailed AgentResult AlreadySettled Blob Branch ClientConfig CommandTunnel
        ContextLengthError Conversation DialectError Endpoint EndpointCrashed EndpointLimits Event Exchange
        ExchangeAbandoned ExchangeError FixedURL Handler HostTool JSONLRecorder LimitReached Limits Media
        Message MissingPrice Opaque OpenedRecorder OutputFormat PartBlob PartDelta PartEnd PartStart Pool
        Price PrimeTunnel Reasoning ReasoningAsk Recorder RecorderGroup Refusal RefusalText Request Response
        ResponseEnd ResponseStart ResponseStream Rollout RolloutClosed SSHTunnel Sampling ScriptExhausted
        ScriptedModel ServiceCall ServiceRecorder StopCondition StopReason TLS Text Tokens Tool ToolCall
        ToolChoice ToolResult Trace TrioceptError Tunnel TunnelError TunnelHealth Turn TurnError Unanswered
        Upstream UpstreamError UpstreamTruncated Usage UserSimulator assemble events_of open_upstream
        read_traces run_endpoint serve_endpoint serve_pool
    """,
    "triocept.agents": """
        AGENTS Launch agent aider claude_code cline codex continue_cli copilot gemini_cli kilo kimi_cli
        kimi_code llm mini_swe_agent mistral_vibe opencode pi qwen_code
    """,
    "triocept.dialects": """
        DIALECTS Dialect Failure Fields OVERFLOW StreamParser StreamRenderer decode_json dialect encode_json
        error_of
    """,
    "triocept.errors": """
        AgentFailed AlreadySettled ContextLengthError DialectError EndpointCrashed ExchangeAbandoned
        ExchangeError LimitReached MissingPrice Refusal RolloutClosed ScriptExhausted TrioceptError
        TunnelError Unanswered UpstreamError UpstreamTruncated
    """,
    "triocept.handlers": """
        Choice Reply ScriptedModel fallback limits read_script route
    """,
}
"""Every public name of 0.2.0, by module."""


@pytest.mark.parametrize("module", OF_0_2)
def test_each_public_name_of_0_2_works_or_its_error_and_the_page_name_the_new_one(module: str) -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/from-0.2.md").read_text()
    for name in OF_0_2[module].split():
        try:
            getattr(import_module(module), name)
        except AttributeError as exc:
            place = str(exc).rpartition("; it is now ")[2].partition(" ")[0]
            home, _, present = place.rpartition(".")
            assert hasattr(import_module(home), present), f"{module}.{name}: {exc}"
            rows = [line for line in page.splitlines() if line.startswith("|") and home in line]
            assert any(re.search(rf"[`.]{name}`", row) for row in rows), f"{module}.{name} is not on the page"


def test_the_error_of_an_old_module_names_the_new_one() -> None:
    with pytest.raises(
        ModuleNotFoundError, match=r"^there is no module 'triocept.nouns'; it is now triocept.types$"
    ):
        exec("from triocept.nouns import Media")


def test_a_name_that_there_is_none_of_is_told_as_python_tells_it() -> None:
    assert not hasattr(triocept, "Reasonin")
    with pytest.raises(AttributeError, match=r"^module 'triocept' has no attribute 'Reasonin'$"):
        triocept.Reasonin  # type: ignore[attr-defined] # noqa: B018
    with pytest.raises(ImportError, match=r"^cannot import name 'Reasonin' from 'triocept' \(/"):
        from triocept import Reasonin  # type: ignore[attr-defined] # noqa: F401


CONTEXTS: dict[str, typing.Any] = {
    "Endpoint": triocept.serve_endpoint,
    "Pool": triocept.serve_pool,
    "Upstream": triocept.open_upstream,
    "Rollout": triocept.Pool.open_rollout,
}


@pytest.mark.parametrize("given", CONTEXTS)
def test_help_says_that_what_opens_something_gives_a_context(given: str) -> None:
    opens, hint = CONTEXTS[given], f"AbstractAsyncContextManager[{given}]"
    assert inspect.signature(opens).return_annotation == hint
    assert str(typing.get_type_hints(opens, localns=NAMES)["return"]).startswith("contextlib.Abstract")
    assert pydoc.plain(pydoc.render_doc(opens)).count(f"-> '{hint}'") == 1


OPENERS: list[tuple[typing.Any, typing.Any]] = [
    (triocept.Endpoint.open_rollout, RolloutOptions),
    (triocept.Pool.open_rollout, RolloutOptions),
    (triocept.Rollout.open_child, RolloutOptions),
    (triocept.Rollout.run_agent, AgentOptions),
    (triocept.Rollout.open_agent, AgentOptions),
    (triocept.run_endpoint, EndpointOptions),
]


@pytest.mark.parametrize(("opens", "options"), OPENERS)
def test_what_takes_typed_keywords_names_each_of_them(opens: typing.Any, options: typing.Any) -> None:
    text = inspect.getdoc(opens) or ""
    found = re.search(r"Keywords: ([\w,\s]+);\s+see\s+`", text)
    named = found[1].split() if found else re.findall(r"^    (\w+): ", text, re.MULTILINE)
    assert [name for name in options.__annotations__ if name not in {word.strip(",") for word in named}] == []


def test_the_options_of_a_rollout_can_be_evaluated_without_help() -> None:
    """As pydantic and the like do it."""
    given = str(typing.get_type_hints(RolloutOptions)["stop"])
    assert "triocept._rollout.rollout.Rollout" in given
    assert "ForwardRef" not in given


@pytest.mark.parametrize("options", [RolloutOptions, AgentOptions, EndpointOptions])
def test_each_field_of_the_options_says_what_it_is(options: typing.Any) -> None:
    lines = inspect.getsource(options).splitlines()
    fields = [number for number, line in enumerate(lines) if re.match(r"    \w+: ", line)]
    assert [lines[number] for number in fields if not lines[number + 1].startswith('    """')] == []


async def test_a_keyword_that_there_is_none_of_is_named_with_what_was_meant() -> None:
    async with triocept.serve_endpoint() as endpoint:
        with pytest.raises(
            TypeError, match=r"open_rollout.*unexpected keyword argument 'modle'; did you mean model\?"
        ):
            endpoint.open_rollout(modle="x")  # type: ignore[call-arg]
        async with endpoint.open_rollout() as rollout:
            with pytest.raises(
                TypeError,
                match=r"open_child.*unexpected keyword argument 'on_hang'; did you mean on_hangup\?",
            ):
                rollout.open_child(on_hang="finish")  # type: ignore[call-arg]
            with pytest.raises(
                TypeError, match=r"run_agent.*unexpected keyword argument 'zzz'; it accepts env, cwd"
            ):
                await rollout.run_agent(["true"], zzz=1)  # type: ignore[call-arg]
            with pytest.raises(
                TypeError,
                match=r"open_agent.*unexpected keyword argument 'termnate_grace'; did you mean terminate_grace\?",
            ):
                rollout.open_agent(["true"], termnate_grace=1)  # type: ignore[call-arg]


def test_a_slip_in_a_name_is_told_as_python_does() -> None:
    done = run_python("import triocept; triocept.Rolout")
    assert "has no attribute 'Rolout'. Did you mean: 'Rollout'?" in done.stderr
