import shlex
import sys
from collections.abc import Sequence

import trio
import triocept


async def main(destination: str, options: Sequence[str]) -> None:
    model = triocept.ScriptedModel(["The bug is fixed."])
    tunnel = triocept.tunnels.SSHTunnel(destination, options=options)
    async with triocept.serve_endpoint(tunnel=tunnel) as endpoint:
        async with endpoint.open_rollout(model) as rollout:
            environ = rollout.environ(reach="public")
            exports = [
                f"export {name}={shlex.quote(value)}" for name, value in environ.items()
            ]
            script = "\n".join([*exports, "exec claude -p 'fix the bug'"])
            # On stdin: every user of that host can read a command's arguments, and there is a key among these.
            result = await rollout.run_agent(
                ["ssh", *options, destination, "sh"], input=script
            )
    print(result.check().stdout_text)


if len(sys.argv) < 2:
    sys.exit("usage: agent_over_ssh.py HOST [OPTION OF SSH ...]")
trio.run(main, sys.argv[1], sys.argv[2:])
