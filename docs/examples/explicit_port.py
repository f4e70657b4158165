import trio
import triocept


async def main() -> None:
    async with triocept.serve_endpoint() as first:
        try:
            async with triocept.serve_endpoint(port=first.port):
                pass
        except OSError as exc:  # bare: no group to take apart
            print(exc)


trio.run(main)
