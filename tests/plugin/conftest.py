"""A project in which pytest runs, with an application that asks its model by HTTP, and no SDK."""

import re
from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

APPLICATION = '''
import json, os, urllib.request

BODY = None

def ask(text, timeout=20):
    """What the model says; an error of its wire is an error here, with what it said."""
    head = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": text}]}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    request = urllib.request.Request(url, json.dumps(body if BODY is None else BODY).encode(), head)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as exc:
        with exc:
            raise RuntimeError(exc.read().decode()) from None

def greet(text="hi"):
    """The same, of an application that swallows what goes wrong."""
    try:
        return ask(text)
    except RuntimeError:
        return "sorry"
'''
OTHERS = (
    "-p", "no:trio", "-p", "no:xdist", "-p", "no:anyio", "-p", "no:hypothesispytest", "-p",
    "no:cacheprovider",
)  # fmt: skip
"""What the project has no use for."""
_IS_INSTALLED = any(entry.name == "triocept" for entry in entry_points(group="pytest11"))
PLUGIN = () if _IS_INSTALLED else ("-p", "triocept_pytest")
"""Where the environment is older than the plugin."""

Run = Callable[..., pytest.RunResult]


@pytest.fixture(autouse=True)
def configuration(pytester: pytest.Pytester) -> None:
    """Give the project a configuration: without one pytest takes ours, if the temporary folder is in the checkout."""
    pytester.makeini("[pytest]\n")


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run the tests in this text, in this process; what else pytest is told."""
    pytester.makepyfile(application=APPLICATION)

    def run(tests: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_it="import os\nimport pytest\nfrom application import ask, greet\n" + tests)
        return pytester.runpytest_inprocess(*PLUGIN, *OTHERS, *arguments)

    return run


def sections(result: pytest.RunResult) -> list[str]:
    """What the report shows of models, failure by failure."""
    text = result.stdout.str() + "\n=====\n"
    return re.findall(r"^-+ triocept -+\n(.*?)(?=^[-_=]{5,})", text, re.MULTILINE | re.DOTALL)
