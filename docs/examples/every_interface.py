import trio
import triocept


async def main() -> None:
    async with triocept.serve_endpoint(host="0.0.0.0") as endpoint:
        print("bound to", endpoint.host)
        print("from this machine", endpoint.url)


trio.run(main)
