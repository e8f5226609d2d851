"""What a config.json means that leaves a key out: transformers' defaults of its family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llama_core.loaders.huggingface.config import read_config

SHORT = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "num_hidden_layers": 8,
    "vocab_size": 300,
    "max_position_embeddings": 8192,
}
MEANT: dict[str, dict[str, Any]] = {
    "llama": {
        "norm_eps": 1e-6,
        "rope_theta": 1e4,
        "head_dim": 16,
        "tie_embeddings": False,
        "sliding_window": 0,
    },
    "mistral": {"sliding_window": 4096},
    "qwen3": {"head_dim": 128, "sliding_window": 0},
    "granite": {"attention_scale": 1.0, "residual_scale": 1.0},
    "smollm3": {"rope_theta": 2e6, "tie_embeddings": True, "rope_layers": (True, True, True, False) * 2},
    "olmo2": {"norm_eps": 1e-5, "rope_theta": 1e4, "sliding_window": 0},
    "olmo3": {"rope_theta": 5e5, "sliding_window": 4096, "window_layers": (True, True, True, False) * 2},
    "exaone4": {"sliding_window": 4096, "rope_layers": (True, True, True, False) * 2},
    "gemma2": {"attention_softcap": 50.0, "logit_softcap": 30.0, "head_dim": 256, "sliding_window": 4096},
    "gemma3_text": {
        "rope_theta": 1e6,
        "window_rope_theta": 1e4,
        "attention_scale": 0.0,
        "logit_softcap": 0.0,
    },
    "ernie4_5": {"rope_theta": 5e5, "head_dim": 128, "tie_embeddings": True},
}


@pytest.mark.parametrize("model_type", MEANT)
def test_a_key_left_out(model_type: str) -> None:
    config = read_config(Path("m/config.json"), {"model_type": model_type, **SHORT}, attention_bias=False)
    assert {field: getattr(config, field) for field in MEANT[model_type]} == MEANT[model_type]


def test_null_is_no_key_left_out() -> None:
    """A window that is null is none, a cap that is null is none."""
    values = {
        "model_type": "gemma2",
        **SHORT,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }
    config = read_config(Path("m/config.json"), values, attention_bias=False)
    assert (config.attention_softcap, config.logit_softcap) == (0.0, 0.0)
    values = {"model_type": "mistral", **SHORT, "sliding_window": None}
    assert read_config(Path("m/config.json"), values, attention_bias=False).sliding_window == 0
