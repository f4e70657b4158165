"""What `import triocept` loads, and what waits for the first endpoint or upstream: a program that only reads a trace,
and a shell that completes a command, need no web server."""

import pytest

from tests.programs import run_python

HEAVY = ("quart", "quart_trio", "flask", "jinja2", "hypercorn", "h2", "wsproto", "h11", "httpx2", "httpcore2")
PROGRAMS = {
    "the library": "import triocept",
    "all names of the library": "from triocept import *",
    "the command line": "import triocept._cli",
    "a trace that is read": "import triocept, sys; list(triocept.read_traces(sys.argv[1]))",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_no_web_server_and_no_http_client_are_loaded_before_they_are_used(
    program: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trace = tmp_path_factory.mktemp("import") / "trace.jsonl"
    trace.write_text("")
    said = (
        f"{program}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}} & {set(HEAVY)!r})"
    )
    done = run_python(said, trace)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


ON_FIRST_USE = ("agents", "evaluation", "exports", "fleets", "handlers", "testing")


def test_import_triocept_loads_few_of_its_modules_and_no_codec_of_a_dialect() -> None:
    program = "import triocept, sys; print(*(name for name in sys.modules if name.startswith('triocept')))"
    loaded = run_python(program).stdout.split()
    assert 0 < len(loaded) <= 200
    assert not {f"triocept.{name}" for name in ON_FIRST_USE} & {*loaded}
    assert not [name for name in loaded if name.startswith("triocept.dialects.openai_chat")]


def test_every_public_module_is_there_when_it_is_first_asked_for_and_in_completion() -> None:
    program = (
        "import triocept\n"
        f"for name in {ON_FIRST_USE!r}: assert getattr(triocept, name).__all__ and name in dir(triocept)\n"
        "assert triocept.ScriptedModel is triocept.handlers.ScriptedModel\n"
        "assert 'openai_chat' in triocept.dialects.DIALECTS"
    )
    done = run_python(program)
    assert done.returncode == 0, done.stderr
