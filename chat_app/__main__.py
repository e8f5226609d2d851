"""`python -m chat_app` is `llama-chat`."""

from __future__ import annotations

import sys

from chat_app.cli import main

sys.exit(main())
