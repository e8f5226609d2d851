"""Numbers of models that are computed in no time, of which hardly two are alike by chance."""

from __future__ import annotations

from typing import Any

SHAPE: dict[str, Any] = {
    "dim": 24,
    "hidden_dim": 40,
    "n_layers": 4,
    "n_heads": 6,
    "n_kv_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
    "max_seq_len": 1024,
}
# Of layers without attention.
STATES: dict[str, Any] = {
    "recurrent_layers": (True, False, True, True),
    "conv_kernel": 3,
    "state_heads": 6,
    "state_head_dim": 5,
    "state_dim": 7,
    "state_groups": 2,
}
