"""Read the files of the page, which are served one by one, and write the page as one HTML file that loads nothing."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).with_name("page")
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_STRICT = "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    f"frame-ancestors 'none'; {_STRICT}"
)
"""The content security policy of the page. With this policy, the page can send requests only to its own server, and a
text written by an agent cannot run as a script."""
_STYLE = re.compile(r'<link rel="stylesheet" href="assets/([\w./-]+)">')
_SCRIPT = re.compile(r'<script src="assets/([\w./-]+)"></script>')
_TITLE = re.compile(r"<title>[^<]*</title>")


class Asset(NamedTuple):
    type: str
    data: bytes


@cache
def index() -> bytes:
    return (PAGE / "index.html").read_bytes()


@cache
def assets() -> dict[str, Asset]:
    """Return the files that the page loads, by name. They are read from the disk only once."""
    found = {}
    for folder, before in ((PAGE, ""), (PAGE / "vendor", "vendor/")):
        for path in sorted(folder.glob("*")):
            if path.suffix in _TYPES:
                found[f"{before}{path.name}"] = Asset(_TYPES[path.suffix], path.read_bytes())
    return found


def html_of(document: bytes, title: str) -> bytes:
    """Return the page as one HTML file that contains `document`. The file needs no server, and loads nothing."""
    page = index().decode()
    hashes: dict[str, list[str]] = {"script": [], "style": []}

    def inlined(match: re.Match[str]) -> str:
        kind = "script" if match[0].startswith("<script") else "style"
        text = assets()[match[1]].data.decode()
        text = text.replace("</script", "<\\/script").replace("<!--", "<\\!--") if kind == "script" else text
        hashes[kind].append(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'")
        return f"<{kind}>{text}</{kind}>"

    page = _STYLE.sub(inlined, page)
    data = b64encode(gzip.compress(document, 6, mtime=0)).decode()
    head, _, tail = page.partition("<script src=")
    head += f'<script type="text/plain" id="triocept-data">{data}</script>\n'
    page = head + _SCRIPT.sub(inlined, f"<script src={tail}")
    policy = (
        f"default-src 'none'; script-src {' '.join(hashes['script'])}; style-src {' '.join(hashes['style'])}; "
        f"img-src data:; {_STRICT}"
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    shown = title.replace("&", "&amp;").replace("<", "&lt;")
    page = _TITLE.sub(lambda _: f"<title>{shown}</title>", page, count=1)
    return page.replace("<head>", f"<head>\n{meta}", 1).encode()
