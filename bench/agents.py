"""The small program that stands for an agent: it calls its model twice, and leaves."""

from __future__ import annotations

import sys

_SOURCE = """
import os, re, socket
host, port, path = re.match(r"http://([^:/]+):(\\d+)(.*)", os.environ["OPENAI_BASE_URL"]).groups()
body = b'{"model": "m", "messages": [{"role": "user", "content": "What now?"}]}'
head = (
    f"POST {path}/chat/completions HTTP/1.1\\r\\nhost: {host}\\r\\nauthorization: Bearer {os.environ['OPENAI_API_KEY']}"
    f"\\r\\ncontent-type: application/json\\r\\ncontent-length: {len(body)}\\r\\n\\r\\n"
)
with socket.create_connection((host, int(port))) as connection:
    for _ in range(2):
        connection.sendall(head.encode() + body)
        said = b""
        while b"\\r\\n\\r\\n" not in said:
            said += connection.recv(65536)
        length = int(re.search(rb"content-length: *(\\d+)", said, re.I)[1])
        rest = len(said.partition(b"\\r\\n\\r\\n")[2])
        while rest < length:
            rest += len(connection.recv(65536))
    print("done")
"""
COMMAND = [sys.executable, "-S", "-c", _SOURCE]
"""Reads OPENAI_BASE_URL and OPENAI_API_KEY, and prints "done"."""
