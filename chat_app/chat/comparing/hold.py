"""Holding the engine while replies are compared: prompts wait, and nobody else computes."""

from __future__ import annotations

import threading

from chat_app.chat.open_chat import Attempt, OpenChat


class Hold:
    """From `take` until `release` or `leave`. `cancelled` is asked by what runs on the engine's thread."""

    def __init__(self, chat: OpenChat) -> None:
        self._chat = chat
        self._attempt: Attempt | None = None
        self._stopped = threading.Event()

    def take(self) -> bool:
        """Take the engine; False, and a word to the user, where it is busy."""
        self._attempt = self._chat.begin()
        return self._attempt is not None

    def cancelled(self) -> bool:
        """Whether what runs is to end."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End what runs."""
        self._stopped.set()

    def release(self) -> Attempt | None:
        """End what runs, and hand the engine on; None where it is not held."""
        self.stop()
        attempt, self._attempt = self._attempt, None
        return attempt

    def leave(self) -> None:
        """End what runs, and let the engine go."""
        attempt = self.release()
        if attempt is not None:
            self._chat.finish_attempt(attempt)
