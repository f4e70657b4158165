import trio
import triocept

# Stands in for cloudflared, ngrok or bore: it prints where it can be reached, and runs on.
PROGRAM = ["sh", "-c", "echo 'Visit it at {url}'; exec sleep 3600"]


async def main() -> None:
    tunnel = triocept.tunnels.CommandTunnel(PROGRAM, pattern=r"Visit it at (\S+)")
    async with triocept.serve_endpoint(tunnel=tunnel) as endpoint:
        print("up:", endpoint.public_url)

    broken = triocept.tunnels.CommandTunnel(
        ["sh", "-c", "echo 'account suspended'; exit 1"]
    )
    try:
        async with triocept.serve_endpoint(tunnel=broken):
            print("never printed")
    except triocept.TunnelError as error:
        print(error)


trio.run(main)
