"""One server of a batch: what it is asked, how it fares, when it is asked again."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from chat_app.batch.elsewhere.limit import Limit
from chat_app.batch.format import SentRequest
from chat_app.batch.identity import ModelIdentity, server_identity
from chat_app.engines.remote.client import Client, ServerError
from chat_app.engines.remote.patience import Patience

# Of a server that does not answer: doubled from one failure to the next.
PATIENCE = Patience(tries=6)
# Whose fault these are says nobody; what answers so is not asked again.
_UNFIT = frozenset({401, 403, 404})


class Host:
    """`running` requests are with it now. Used within one event loop."""

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        most: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._model, self._clock = client, model, clock
        self.name = client.endpoint.host
        self.identity: ModelIdentity = server_identity(client.endpoint, model)
        self.limit = Limit(most)
        self.running = self.answered = 0
        self.unfit: ServerError | None = None  # why it is asked no more
        self.trouble: ServerError | None = None  # why it failed last, while it does
        self._failures = self._refusals = 0  # one after another
        self._rest_until_s = 0.0

    @property
    def is_lost(self) -> bool:
        """Whether it failed so often that nothing is to be hoped of it unless another goes on."""
        return self.unfit is not None or self._failures >= PATIENCE.tries

    @property
    def has_room(self) -> bool:
        """Whether it takes another request now. After a failure it gets one, to see whether it lives."""
        if self.unfit is not None or self._clock() < self._rest_until_s:
            return False
        return self.running < (1 if self._failures else self.limit.value)

    def ask(self, request: SentRequest) -> Coroutine[Any, Any, dict[str, Any]]:
        """The server's answer, for which the place is taken now. Raises ServerError."""
        self.running += 1
        return self._ask(request)

    async def _ask(self, request: SentRequest) -> dict[str, Any]:
        body = {**request.body, "model": self._model}
        try:
            answer = await self._client.post(request.url.removeprefix("/v1"), body)
            full = self.running >= self.limit.value
        except ServerError as error:
            self._failed(error)
            raise
        finally:
            self.running -= 1
        self._failures = self._refusals = 0
        self.trouble = None
        self.answered += 1
        self.limit.answered(self._clock(), max(1, tokens_of(answer)[1]), full=full)
        return answer

    def _failed(self, error: ServerError) -> None:
        now_s = self._clock()
        if error.status in _UNFIT or (error.status == 429 and not error.is_busy):
            self.unfit = error
        elif error.may_pass and now_s >= self._rest_until_s:  # of many at once one counts
            if error.is_busy:
                self._refusals += 1
                self.limit.refused()
            else:
                self._failures += 1
                self.trouble = error
            nth = min(max(self._failures, self._refusals), PATIENCE.tries - 1)
            wait_s = PATIENCE.wait_s(error, nth)
            self._rest_until_s = now_s + (wait_s if wait_s is not None else PATIENCE.most_s)

    async def close(self) -> None:
        """Let its connections go."""
        await self._client.close()


def tokens_of(answer: dict[str, Any]) -> tuple[int, int]:
    """(of the prompt, of the reply), as the answer's usage tells; 0 where it does not."""
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    found = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
    prompt_n, reply_n = (value if type(value) is int and value > 0 else 0 for value in found)
    return prompt_n, reply_n
