"""What an upstream sends to its provider, as it leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from triocept._upstream.patience import Patience
from triocept._upstream.request import ProviderRequest
from triocept._upstream.transport import ProviderClient, ProviderReply


@dataclass
class Sent:
    """The documents of all calls, each with the path that it went to."""

    documents: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def to(self, path: str) -> list[dict[str, Any]]:
        """What went to a path that ends so."""
        return [document for address, document in self.documents if address.endswith(path)]

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> Sent:
        original = ProviderClient.open

        @asynccontextmanager
        async def watched(
            client: ProviderClient, call: ProviderRequest, patience: Patience
        ) -> AsyncIterator[ProviderReply]:
            self.documents.append((call.address, json.loads(call.body or b"{}")))
            async with original(client, call, patience) as reply:
                yield reply

        monkeypatch.setattr(ProviderClient, "open", watched)
        return self
