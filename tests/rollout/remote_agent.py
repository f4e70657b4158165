"""An agent in another process, told over its stdin what to do: a line of JSON each, answered by a line."""

import json
import socket
import sys


def main() -> None:
    sock = socket.socket()
    for line in sys.stdin:
        order = json.loads(line)
        answer = ""
        match order["do"]:
            case "send":
                sock = socket.create_connection(("127.0.0.1", order["port"]), timeout=60)
                sock.sendall(order["data"].encode())
            case "hang up":
                sock.close()
            case "read":
                answer = read(sock)
        print(json.dumps(answer), flush=True)


def read(sock: socket.socket) -> str:
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except OSError:
        pass
    sock.close()
    return data.decode()


if __name__ == "__main__":
    main()
