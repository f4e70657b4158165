"""Request the number of tokens in a prompt from the provider.

Rules:

1. If the provider returns no count, the number of tokens is estimated, so no call fails because of a missing count.
2. If a provider's answer shows that the provider has no API for counting, no further count is requested from this
   provider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from .._canonical.content import Json
from .._canonical.request import Request
from ..dialects import Dialect
from ..dialects.kit import decode_json
from ..errors import DialectError, UpstreamError
from .patience import Patience
from .request import ProviderRequest, Requests

if TYPE_CHECKING:
    from .transport import ProviderClient

SECONDS = 10.0
"""Maximum seconds to wait for the provider's count. The agent is waiting, and an estimate is immediately available."""
_ABSENT = frozenset({400, 403, 404, 405, 422, 501})


@final
class Counter:
    def __init__(self, requests: Requests, transport: ProviderClient, dialect: Dialect) -> None:
        self._requests = requests
        self._transport = transport
        self._count_tokens = dialect.count_tokens
        self._absent: set[str] = set()

    async def count(self, request: Request) -> int | None:
        """Return the number of tokens in a prompt, counted by the provider.

        Return None if the provider returns no count.

        Cancellation: closes the connection to the provider.
        """
        if self._count_tokens is None:
            return None
        try:
            call = self._requests.of_request(request, stream=False)
        except DialectError:
            return None
        patience = Patience(SECONDS, None)
        with patience.scope:
            calls = self._count_tokens(call.model, decode_json(call.body))
            answer: Json = None
            while True:
                try:
                    further = calls.send(answer)
                except StopIteration as end:
                    count: int | None = end.value
                    return count
                answer = await self._answer(self._requests.of_provider(further), patience)
        return None

    async def _answer(self, call: ProviderRequest, patience: Patience) -> Json:
        """Send `call`, and return the decoded JSON body of the response.

        Return None if the call fails, or if the provider does not support the call.
        """
        if call.address in self._absent:
            return None
        try:
            async with self._transport.open(call, patience) as reply:
                body = await reply.read()
                if reply.status in _ABSENT:
                    self._absent.add(call.address)
                return decode_json(body) if reply.status == 200 else None
        except (UpstreamError, DialectError):
            return None
