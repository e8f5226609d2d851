"""How often and after how long a server that failed is asked again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from chat_app.engines.remote.client import ServerError


@dataclass(frozen=True, slots=True)
class Patience:
    """tries: how often one request is sent. Waits double from first_s to most_s; a part of each is left to
    chance, so that many who wait do not come back at once. What the server asks for comes before all that."""

    tries: int = 5
    first_s: float = 0.5
    most_s: float = 20.0

    def wait_s(self, error: ServerError, failed: int, luck: float | None = None) -> float | None:
        """Seconds to wait after the `failed`th failure (from 1), None to give up. luck: 0 to 1, drawn where
        it is not given."""
        if not error.may_pass or failed >= self.tries:
            return None
        if error.retry_s is not None:
            return error.retry_s
        luck = random.random() if luck is None else luck
        wait: float = min(self.most_s, self.first_s * 2 ** (failed - 1))
        return wait * (0.5 + luck / 2)
