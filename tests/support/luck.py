"""What random tests draw from: the same each time, since what lands must not depend on luck.

LLAMA_CHAT_FUZZ_SEED (a number) asks for other mutants, examples, sizes and moments, here and of Hypothesis.
"""

from __future__ import annotations

import os

CHOSEN = os.environ.get("LLAMA_CHAT_FUZZ_SEED")
SEED = int(CHOSEN or 1)
