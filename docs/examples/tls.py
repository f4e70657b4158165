import ssl

import httpx2
import trio
import triocept
import trustme


async def main() -> None:
    # For a test. In earnest, pass the paths of the files: tls=("cert.pem", "key.pem").
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    model = triocept.ScriptedModel(["This is between us."])
    async with (
        triocept.serve_endpoint(host="localhost", tls=server) as endpoint,
        endpoint.open_rollout(model) as rollout,
        httpx2.AsyncClient(verify=client) as http,
        rollout.client("openai_chat", http_client=http) as openai,
    ):
        print(endpoint.url)
        completion = await openai.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "A word in private?"}]
        )
        print(completion.choices[0].message.content)


trio.run(main)
