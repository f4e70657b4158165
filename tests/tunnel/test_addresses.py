"""Which address an agent is given: here, or elsewhere."""

import pytest

from tests.asking import CHAT, ask_body, bearer, echo
from tests.tunnel.relay import Relay
from triocept import TunnelError, serve_endpoint
from triocept.tunnels import FixedURL, SSHTunnel


async def test_an_advertised_name_is_joined_with_the_live_port() -> None:
    async with serve_endpoint(host="0.0.0.0", advertise="gpu1.example") as endpoint:
        assert endpoint.public_url == f"http://gpu1.example:{endpoint.port}"
        assert endpoint.url == f"http://127.0.0.1:{endpoint.port}"
        async with endpoint.open_rollout() as rollout:
            local, public = rollout.environ(), rollout.environ(reach="public")
            assert rollout.environ(reach="local") == local
            assert public["OPENAI_BASE_URL"] == f"http://gpu1.example:{endpoint.port}/rollout/{rollout.id}/v1"
            assert public["ANTHROPIC_BASE_URL"] == f"http://gpu1.example:{endpoint.port}/rollout/{rollout.id}"
            assert public["GOOGLE_GEMINI_BASE_URL"] == public["ANTHROPIC_BASE_URL"]
            assert {name for name in local if local[name] != public[name]} == {
                "OPENAI_BASE_URL",
                "OPENAI_API_BASE",
                "ANTHROPIC_BASE_URL",
                "GOOGLE_GEMINI_BASE_URL",
                "COPILOT_PROVIDER_BASE_URL",
                "OLLAMA_HOST",
                "GROK_BASE_URL",
                "LLM_BASE_URL",
                "TRIOCEPT_URL",
            }
            assert (
                rollout.config("openai_chat", reach="public").base_url
                == f"http://gpu1.example:{endpoint.port}/rollout/{rollout.id}/v1"
            )


async def test_an_advertised_ipv6_address_stands_in_brackets() -> None:
    async with serve_endpoint(host="::", advertise="2001:db8::1") as endpoint:
        assert endpoint.public_url == f"http://[2001:db8::1]:{endpoint.port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
async def test_an_endpoint_that_nobody_elsewhere_can_name_says_what_to_do(host: str) -> None:
    async with serve_endpoint(host=host) as endpoint, endpoint.open_rollout() as rollout:
        with pytest.raises(TunnelError, match="pass serve_endpoint tunnel=, or advertise="):
            _ = endpoint.public_url
        with pytest.raises(TunnelError, match="advertise="):
            rollout.environ(reach="public")
        with pytest.raises(TunnelError, match="advertise="):
            await endpoint.wait_reachable()


async def test_a_reach_that_is_none_is_a_valueerror() -> None:
    async with serve_endpoint(advertise="a") as endpoint, endpoint.open_rollout() as rollout:
        with pytest.raises(ValueError, match="'local' or 'public', not 'global'"):
            rollout.environ(reach="global")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["", "http://a.example", "a.example:80", "a.example/x", "a b", "-a", "user@a", "[::1]"]
)
async def test_what_is_no_host_cannot_be_advertised(name: str) -> None:
    with pytest.raises(ValueError, match="advertise must be a host's name or address"):
        async with serve_endpoint(advertise=name):
            raise AssertionError


@pytest.mark.parametrize("url", [
    "", "a.example", "ftp://a.example", "http://", "http://a:99999", "https://a/?x=1", "https://a/#x",
    "http://a b",
])  # fmt: skip
def test_what_no_agent_can_be_pointed_at_is_no_fixed_url(url: str) -> None:
    with pytest.raises(ValueError, match="FixedURL"):
        FixedURL(url)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="password") as caught:
        FixedURL("https://me:secret@a.example")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("destination", ["", "-oProxyCommand=evil", "a b"])
def test_what_is_no_ssh_destination_is_refused(destination: str) -> None:
    with pytest.raises(ValueError, match="destination"):
        SSHTunnel(destination)


async def test_a_tunnel_and_an_advertised_name_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="pass only one of them"):
        async with serve_endpoint(advertise="a.example", tunnel=Relay()):
            raise AssertionError


async def test_a_url_in_place_of_a_tunnel_is_a_typeerror() -> None:
    with pytest.raises(TypeError, match="tunnel must be a Tunnel"):
        async with serve_endpoint(tunnel="https://a.example"):  # type: ignore[arg-type]
            raise AssertionError


async def test_an_agent_elsewhere_is_answered_through_the_tunnel() -> None:
    import httpx2

    relay = Relay()
    async with serve_endpoint(tunnel=relay) as endpoint, endpoint.open_rollout(echo) as rollout:
        assert endpoint.public_url == relay.opened[0] != endpoint.url
        url = rollout.base_url("openai_chat", reach="public").removesuffix("/v1") + CHAT
        async with httpx2.AsyncClient() as client:
            answer = await client.post(url, json=ask_body("over there"), headers=bearer(rollout))
        assert answer.json()["choices"][0]["message"]["content"] == "over there"
    assert relay.open_now == 0
