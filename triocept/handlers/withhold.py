"""`withhold`: a handler that removes parts of requests, such as tools or media, before another handler gets them.

A notice lists the removed parts for the model.

Rules:

1. `withhold` can remove tools by name, tools that the provider runs, remote MCP servers, containers, all media, or only
   media that are given by URL.
2. A tool choice that names a removed tool becomes `auto`.
3. A notice at the end of the request's messages lists the removed tools and media, so that the model does not request
   them. The notice does not become part of the agent's own history.
4. The note `withheld` of the turn contains the paths, within the request, of everything that was removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Media, Message, Part, Text, ToolResult
from .._canonical.request import Request, Tool
from .._rollout.draft import open_draft, pass_on
from .._rollout.exchange import Exchange
from .._rollout.handler import Handler, awaiting, check_handler
from .._rollout.mistakes import UnofferedTools
from .._util.checks import check_bool, described, with_known_keywords

MediaKind: TypeAlias = Literal["image", "audio", "file"]
_KINDS: tuple[MediaKind, ...] = ("image", "audio", "file")
_NETWORK = ("mcp_servers", "container", "web_search_options", "plugins")
"""Fields of a request that let the provider run code or use the network: remote MCP servers and containers (Messages),
web search (chat completions), plugins (OpenRouter)."""


@with_known_keywords
def withhold(
    handler: Handler,
    *,
    tools: Iterable[str] = (),
    media: bool | Iterable[MediaKind] = False,
    urls: bool = False,
    network: bool = False,
) -> Handler:
    """Return a handler that removes parts of requests before `handler` gets them: `withhold(model, urls=True)`.

    Args:
        handler: the handler that answers.
        tools: names of the tools to remove; `*` and `?` are wildcards. For a tool that the provider runs, its type is
            its name (`web_search_20250305`).
        media: True removes all images, sounds and files. A list removes only media of the listed kinds.
        urls: True removes media that are given by URL, which the provider would fetch. Media whose data is in the
            request itself are kept.
        network: True removes everything that the provider runs: its own tools, remote MCP servers and containers.

    Raises:
        TypeError, ValueError: an argument is invalid, or the arguments remove nothing.
    """
    check_handler(handler)
    check_bool("urls", urls)
    check_bool("network", network)
    if isinstance(tools, str):
        raise TypeError(f"tools must be a list of names, not {described(tools)}: write tools=[{tools!r}]")
    patterns = tuple(tools)
    given: tuple[object, ...] = patterns
    for pattern in given:
        if not isinstance(pattern, str) or not pattern:
            raise TypeError(f"tools must be a list of names, but it contains {described(pattern)}")
    kinds = _KINDS if media is True else () if media is False else tuple(media)
    for kind in kinds:
        if kind not in _KINDS:
            raise ValueError(f"media must be True, or a list of some of {', '.join(_KINDS)}, not {kind!r}")
    if not (patterns or kinds or urls or network):
        raise ValueError("withhold has nothing to remove: pass tools=, media=, urls= or network=")
    inner = awaiting(handler)
    unoffered = UnofferedTools("withhold(tools=…)", patterns)

    async def withheld(exchange: Exchange) -> None:
        unoffered.check(exchange.request, warns=True)
        removed = _Removed(patterns, frozenset(kinds), urls, network)
        request = removed.apply(exchange.request)
        if not removed.paths:
            await inner(exchange)
            return
        exchange.annotate(withheld=removed.paths)
        async with open_draft(exchange, inner, request) as draft:
            await pass_on(exchange, draft, why="withhold", keep=True)

    return withheld


class _Removed:
    """State while parts are removed from one request: the paths and the names of the removed parts."""

    def __init__(self, patterns: tuple[str, ...], kinds: frozenset[str], urls: bool, network: bool) -> None:
        self._patterns, self._kinds, self._urls, self._network = patterns, kinds, urls, network
        self.paths: list[str] = []
        self._names: dict[str, None] = {}
        """Names of the removed parts, for the notice to the model."""

    def apply(self, request: Request) -> Request:
        """Return `request` without the parts that the options of `withhold` remove.

        If parts were removed, also add a notice for the model to the request.
        """
        tools = tuple([tool for place, tool in enumerate(request.tools) if not self._takes_tool(place, tool)])
        messages = [self._message(place, message) for place, message in enumerate(request.messages)]
        extra = dict(request.extra or {})
        for name in _NETWORK if self._network else ():
            if extra.pop(name, None):
                self._remove(name, name.replace("_", " "))
        if not self.paths:
            return request
        choice = request.tool_choice
        if choice is not None and (
            not tools or (choice.name and choice.name not in [tool.name for tool in tools])
        ):
            choice = None
        notice = f"Not available here: {', '.join(self._names)}. Continue without."
        return msgspec.structs.replace(
            request,
            tools=tools,
            tool_choice=choice,
            messages=(*messages, Message("user", (Text(notice),))),
            extra=extra or None,
        )

    def _remove(self, path: str, name: str) -> None:
        self.paths.append(path)
        self._names[name] = None

    def _takes_tool(self, place: int, tool: Tool) -> bool:
        kind = (tool.extra or {}).get("type") if tool.kind == "server" else None
        names = [name for name in (tool.name, kind) if isinstance(name, str) and name]
        taken = (self._network and tool.kind == "server") or any(
            fnmatchcase(name, pattern) for name in names for pattern in self._patterns
        )
        if taken:
            self._remove(f"tools[{place}]", f"the tool {names[0]}" if names else "a tool of the provider")
        return taken

    def _message(self, place: int, message: Message) -> Message:
        content = self._parts(f"messages[{place}].content", message.content)
        return message if content == message.content else msgspec.structs.replace(message, content=content)

    def _parts(self, path: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple([self._part(f"{path}[{place}]", part) for place, part in enumerate(parts)])

    def _part(self, path: str, part: Part) -> Part:
        if isinstance(part, ToolResult):
            content = self._parts(f"{path}.content", part.content)
            return part if content == part.content else msgspec.structs.replace(part, content=content)
        if not isinstance(part, Media):
            return part
        by_url = self._urls and part.url is not None and not part.url.startswith("data:")
        if not by_url and part.kind not in self._kinds:
            return part
        self._remove(path, f"{part.kind}s by URL" if part.kind not in self._kinds else f"{part.kind}s")
        return Text(f"[{part.kind} withheld]")
