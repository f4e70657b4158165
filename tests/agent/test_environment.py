from typing import Any

import pytest

from triocept._process.environment import agent_environment, secret_values
from triocept._rollout.environment import provider_environment
from triocept.dialects import DIALECTS

ROLLOUT = provider_environment(
    each.environment(f"http://10.1.2.3:4567/rollout/r1{each.base_path}", "sk-rollout-0123456789", "my-model")
    for each in DIALECTS.values()
    if each.environment is not None
)
OPENAI = "http://10.1.2.3:4567/rollout/r1/v1"
KEY = "sk-rollout-0123456789"


def test_the_rollout_is_in_every_variable_that_agents_read() -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        assert ROLLOUT[name] == KEY
    assert ROLLOUT["OPENAI_BASE_URL"] == ROLLOUT["OPENAI_API_BASE"] == OPENAI
    assert (
        ROLLOUT["ANTHROPIC_BASE_URL"]
        == ROLLOUT["GOOGLE_GEMINI_BASE_URL"]
        == "http://10.1.2.3:4567/rollout/r1"
    )


@pytest.mark.parametrize("agent", ["COPILOT_PROVIDER", "GROK", "LLM"])
def test_agents_with_variables_of_their_own_are_given_them(agent: str) -> None:
    assert ROLLOUT[f"{agent}_BASE_URL"] == OPENAI
    assert ROLLOUT[f"{agent}_API_KEY"] == KEY


def test_the_model_is_the_rollouts_as_each_agent_names_it() -> None:
    assert ROLLOUT["OPENAI_MODEL"] == ROLLOUT["COPILOT_MODEL"] == "my-model"
    assert ROLLOUT["LLM_MODEL"] == "openai/my-model"  # litellm's: which provider's client, then the name


def test_there_is_one_key_for_anthropics_clients() -> None:
    """With ANTHROPIC_AUTH_TOKEN beside it agno makes no call at all and ends with 0, and Anthropic's SDKs warn."""
    environment = agent_environment({"ANTHROPIC_AUTH_TOKEN": "the parent's"}, ROLLOUT)
    assert [name for name in environment if name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")] == [
        "ANTHROPIC_API_KEY"
    ]


def test_no_agent_asks_elsewhere_or_sends_its_prompts_there() -> None:
    """OpenAI's agents SDK would export each run to its maker, with the rollout's key in the head."""
    assert ROLLOUT["OPENAI_AGENTS_DISABLE_TRACING"] == "1"
    assert ROLLOUT["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    for name in ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER"):
        assert ROLLOUT[name] == "1"


def test_copilot_asks_no_one_but_the_rollout_whatever_token_of_github_it_finds() -> None:
    environment = agent_environment({"GH_TOKEN": "for git", "COPILOT_GITHUB_TOKEN": "the parent's"}, ROLLOUT)
    assert environment["COPILOT_OFFLINE"] == "true"
    assert environment["GH_TOKEN"] == "for git"
    assert "COPILOT_GITHUB_TOKEN" not in environment


def test_claude_code_waits_half_an_hour_because_all_four_timeouts_are_set() -> None:
    assert ROLLOUT["API_FORCE_IDLE_TIMEOUT"] == "0"
    for name in ("API_TIMEOUT_MS", "CLAUDE_STREAM_IDLE_TIMEOUT_MS", "CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS"):
        assert ROLLOUT[name] == "1800000"


@pytest.mark.parametrize("name", [
    "OPENAI_API_KEY", "OPENAI_BASE_URL", "openai_api_key", "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_AUTH_TOKEN",
    "CLAUDECODE", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "GEMINI_API_KEY", "GOOGLE_API_KEY",
    "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GEMINI_BASE_URL", "AZURE_OPENAI_ENDPOINT",
    "AWS_BEARER_TOKEN_BEDROCK", "LITELLM_MASTER_KEY", "MISTRAL_API_KEY", "OLLAMA_HOST", "CODEX_API_SOMETHING",
    "AZURE_API_VERSION", "AZURE_AI_SOMETHING", "COPILOT_PROVIDER_TYPE", "OPENAI_API_TYPE",
    "OPENAI_WEBHOOK_SECRET", "ANTHROPIC_BEDROCK_BASE_URL", "ANTHROPIC_UNIX_SOCKET", "ANTHROPIC_PROFILE",
    "CLAUDE_CODE_SESSION_ID", "CLAUDE_CODE_CHILD_SESSION", "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_MESSAGING_TOKEN", "CLAUDE_CODE_SSE_PORT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "aws_secret_access_key", "SOME_PROVIDER_OF_2031_APIKEY", "VLLM_HOST", "API_KEY",
    "BASE_URL", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "REPLICATE_TOKEN", "SOME_PROVIDER_OF_2031_API_KEYS",
    "SOME_PROVIDER_OF_2031_API_TOKEN", "SOME_PROVIDER_OF_2031_AUTH_TOKEN", "SOME_PROVIDER_OF_2031_API_HOST",
    "SOME_PROVIDER_OF_2031_API_ENDPOINT", "SOME_PROVIDER_OF_2031_API_KEY", "SOME_PROVIDER_OF_2031_BASE_URL",
    "SOME_PROVIDER_OF_2031_API_BASE",
])  # fmt: skip
def test_the_parents_own_providers_never_reach_an_agent(name: str) -> None:
    environment = agent_environment({name: "the parent's", "PATH": "/bin"}, {})
    assert "the parent's" not in environment.values()
    assert environment["PATH"] == "/bin"
    assert "the parent's" not in agent_environment({name: "the parent's"}, ROLLOUT).values()


@pytest.mark.parametrize("name", [
    *("HOME", "LANG", "GH_TOKEN", "GITHUB_TOKEN", "CLAUDE_CONFIG_DIR", "TRIOCEPT_AGENT", "AWS_REGION"),
    *("CLAUDE_CODE_AUTO_COMPACT_WINDOW", "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "CLAUDE_CODE_EFFORT_LEVEL"),
    *("CLAUDE_CODE_MAX_TOOL_USE_CONCURRENCY", "ANTHROPIC_MODEL", "GEMINI_MODEL", "VLLM_USE_V1"),
])  # fmt: skip
def test_what_an_agent_needs_for_its_work_stays_settings_too(name: str) -> None:
    assert agent_environment({name: "x"}, ROLLOUT)[name] == "x"


def test_the_callers_own_variables_win_and_none_takes_one_out() -> None:
    environment = agent_environment(
        {"A": "parent"}, ROLLOUT, {"A": "mine", "MISTRAL_API_KEY": "given back", "ANTHROPIC_API_KEY": None}
    )
    assert environment["A"] == "mine"
    assert environment["MISTRAL_API_KEY"] == "given back"
    assert "ANTHROPIC_API_KEY" not in environment
    assert environment["OPENAI_API_KEY"] == KEY


def test_a_proxy_of_the_parents_does_not_swallow_the_agents_calls() -> None:
    parent = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "intra.example, 10.0.0.1"}
    environment = agent_environment(parent, ROLLOUT)
    assert environment["HTTPS_PROXY"] == "http://proxy:3128"
    expected = ["intra.example", "10.0.0.1", "10.1.2.3", "127.0.0.1", "localhost", "::1"]
    assert environment["NO_PROXY"].split(",") == expected
    assert environment["no_proxy"] == environment["NO_PROXY"]


def test_secrets_are_known_by_name_and_words_are_none() -> None:
    values: dict[str, Any] = {
        "A_TOKEN": "abcdefgh",
        "B_KEY": "1",
        "PATH": "/usr/bin:/bin",
        "C_SECRET": "longer-secret",
    }
    assert secret_values(values) == ("longer-secret", "abcdefgh")
