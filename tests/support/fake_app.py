"""The real app on the fake engine, for tests that run it as a process in a pseudo-terminal.

    python -m tests.support.fake_app MODEL_FILE SCRIPT

SCRIPT is a file with the reply, given out one character at a time (`--slow` waits between them).
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    from chat_app.config.settings import Settings
    from chat_app.tui.app import run_app
    from tests.support.fake_engine import FakeEngine, factory_of

    model, script = sys.argv[1:3]
    text = Path(script).read_text(encoding="utf-8", errors="surrogateescape")
    pieces = list(text)
    if "--endless" in sys.argv:
        pieces = pieces * 1_000_000
    delay = 0.002 if "--slow" in sys.argv else 0.0
    engine = FakeEngine(script=lambda turns: pieces, delay_s=delay)
    return run_app(Settings(model=model), open_engine=factory_of(engine))


if __name__ == "__main__":
    sys.exit(main())
