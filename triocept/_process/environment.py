"""Make an agent's environment: the program's variables without keys and URLs of providers, and the rollout's variables.

These variables are removed, in upper and in lower case:

* variables that select a provider (`CHOICES`), or link an agent to the agent that started it (`NESTED`);
* variables of a provider (`PROVIDERS`) with a word for a key or an endpoint in their names (`WORDS`), for example
  `OPENAI_WEBHOOK_SECRET` and `OLLAMA_HOST`. Settings like `CLAUDE_CODE_MAX_OUTPUT_TOKENS` and `ANTHROPIC_MODEL` stay;
* variables whose names end like the name of a provider's key or endpoint (`SUFFIXES`), and some single variables
  (`NAMES`).

These rules also cover future providers, and remove too many variables rather than too few: a key that is removed by
mistake can be restored by `env=`, but a key that stays by mistake is a leak. AWS keys are removed, because they give
access to Amazon's models. `GOOGLE_APPLICATION_CREDENTIALS` stays, because it names a file that an agent may need for
its work. `GH_TOKEN` and `GITHUB_TOKEN` stay, because git and gh need them. Only GitHub's Copilot uses these tokens as
the key of its model, and Copilot is configured to call only the rollout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from .._util.checks import check_type

PROVIDERS = (
    *("OPENAI_", "ANTHROPIC_", "CLAUDE_CODE_", "CODEX_", "GEMINI_", "GOOGLE_GEMINI_", "GOOGLE_GENAI_"),
    *("AWS_", "LITELLM_", "OPENROUTER_", "COPILOT_", "OLLAMA_", "VLLM_"),
)
WORDS = frozenset(
    {
        *("KEY", "KEYS", "TOKEN", "SECRET", "PASSWORD", "PASSPHRASE", "AUTH", "OAUTH", "CREDENTIALS", "CERT"),
        *("URL", "URI", "HOST", "PORT", "ENDPOINT", "SOCKET", "PROXY", "HEADERS"),
    }
)
CHOICES = (
    *("OPENAI_API_", "AZURE_OPENAI_", "AZURE_API_", "AZURE_AI_", "CODEX_API_", "COPILOT_PROVIDER_"),
    *("CLAUDE_CODE_USE_", "GOOGLE_GENAI_USE_", "GEMINI_CLI_USE_", "ANTHROPIC_PROFILE"),
)
NESTED = (
    # Claude Code 2.1.332 sets these for its tools; with them, another Claude Code behaves as its sub-process.
    *("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_EXECPATH"),
    *("CLAUDE_CODE_CHILD_", "CLAUDE_CODE_SESSION", "CLAUDE_CODE_REMOTE", "CLAUDE_CODE_BRIDGE_"),
)
SUFFIXES = (
    *("_API_KEY", "_API_KEYS", "_APIKEY", "_API_TOKEN", "_AUTH_TOKEN"),
    *("_BASE_URL", "_API_BASE", "_API_HOST", "_API_ENDPOINT"),
)
NAMES = frozenset({"API_KEY", "BASE_URL", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "REPLICATE_TOKEN"})
ACCOUNTS = frozenset({"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "KUBECONFIG", "SSH_AUTH_SOCK"})
"""Variables that name a file with credentials, or a socket of a program that has credentials."""
SECRET_SUFFIXES = ("KEY", "KEYS", "TOKEN", "SECRET", "PASSWORD")


_kept: set[str] = set()


def keep_from_agents(names: Iterable[str]) -> None:
    """Remove the variables `names` from the environment of each agent that this program starts later."""
    _kept.update(names)


def agent_environment(
    parent: Mapping[str, str], provider: Mapping[str, str], extra: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """Return an agent's environment: `parent` without provider variables, then `provider`, then `extra`.

    If several of them contain a variable, the last one has priority.

    The hosts of the provider's URLs are added to `NO_PROXY`, so that the agent's calls do not go to a proxy.

    Args:
        parent: usually `os.environ`.
        provider: variables that make the agent call the rollout, which is to be its only provider.
        extra: the caller's own variables; a value of None removes the variable.
    """
    if extra is not None:
        check_type("env", extra, Mapping, "a mapping of names to values")
    environment = {
        name: value for name, value in parent.items() if name not in _kept and not is_provider_variable(name)
    }
    listed = [host.strip() for name in ("NO_PROXY", "no_proxy") for host in parent.get(name, "").split(",")]
    urls = [value for value in provider.values() if value.startswith(("http://", "https://"))]
    called = [urlsplit(url).hostname for url in urls]
    hosts = dict.fromkeys(host for host in [*listed, *called, "127.0.0.1", "localhost", "::1"] if host)
    # curl reads only the lower spelling for http, other programs prefer the upper one.
    environment["NO_PROXY"] = environment["no_proxy"] = ",".join(hosts)
    environment |= provider
    for name, value in (extra or {}).items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


def is_provider_variable(name: str) -> bool:
    """Return True if a variable of the program's environment must not be passed to an agent."""
    name = name.upper()
    if name in NAMES or name.startswith(CHOICES + NESTED) or name.endswith(SUFFIXES):
        return True
    return name.startswith(PROVIDERS) and not WORDS.isdisjoint(name.split("_"))


def opens_an_account(name: str) -> bool:
    """Return True if a variable with this name contains a credential.

    Also return True if the variable names a file or a program that has credentials.
    """
    name = name.upper()
    return name in ACCOUNTS or name.endswith(("CREDENTIALS", *SECRET_SUFFIXES))


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of variables whose names are those of secrets (`…KEY`, `…TOKEN`, …), the longest value first.

    No error or log message may contain these values.
    """
    # Shorter values ("1", "none", "dummy") are words, and would mask ordinary text.
    values = {v for k, v in environment.items() if k.upper().endswith(SECRET_SUFFIXES) and len(v) >= 8}
    return tuple(sorted(values, key=len, reverse=True))
