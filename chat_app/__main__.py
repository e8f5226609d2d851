"""Where `llama-chat` and `python -m chat_app` begin."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        # Ctrl+C while modules are being imported ends at once: as an exception it would print where it hit.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from chat_app.cli import main as run

    signal.signal(signal.SIGINT, before)
    return run()


if __name__ == "__main__":
    sys.exit(main())
