from collections.abc import Sequence

import httpx2
import msgspec
import trio
import triocept


class Progress(msgspec.Struct):
    score: int = 0


async def user(
    messages: Sequence[triocept.Message], rollout: triocept.Rollout
) -> str | None:
    if not messages:
        return "My order has not come."
    if "number" in messages[-1].text:
        return "It is 4711."
    return None  # nothing more to say


async def stop(
    messages: Sequence[triocept.Message], rollout: triocept.Rollout
) -> str | None:
    if rollout.state.score >= 10:
        return "the score is reached"
    return "the talk is long enough" if len(messages) > 20 else None


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(user=user, stop=stop, state=Progress()) as rollout,
        httpx2.AsyncClient() as client,
    ):
        # What follows is the agent's side: any program, anywhere, with the key.
        key = {"authorization": f"Bearer {rollout.api_key}"}
        talk = []
        for reply in ("Hello! What is the number?", "Thank you, it is on its way."):
            body = {"messages": talk}
            said = await client.post(
                rollout.service_url("user"), json=body, headers=key
            )
            talk += said.json()["messages"]
            talk.append({"role": "assistant", "content": reply})
        for message in talk:
            print(f"{message['role']:>9}: {message['content']}")
        done = await client.post(rollout.service_url("stop"), headers=key)
        print(done.json())

        # A judge in another place, with a key that opens the state and nothing else.
        judge = {"authorization": f"Bearer {rollout.state_key}"}
        url = rollout.service_url("state")
        bad = await client.put(url, json={"score": "ten"}, headers=judge)
        print(bad.status_code, bad.json()["error"]["message"])
        await client.put(url, json={"score": 10}, headers=judge)
        print(rollout.state)
        done = await client.post(rollout.service_url("stop"), headers=key)
        print(done.json())


trio.run(main)
