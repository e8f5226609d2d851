"""The config.json files of families with states, as published: every number read, nothing unknown."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from llama_core.config import ModelConfig
from llama_core.errors import LlamaCoreError
from llama_core.loaders.huggingface.config import read_config
from llama_core.loaders.json_files import parse_object

# fmt: off
QWEN: dict[str, Any] = {
    "attention_bias": False, "attention_dropout": 0.0, "attn_output_gate": True, "dtype": "bfloat16",
    "eos_token_id": 248044, "full_attention_interval": 4, "head_dim": 256, "hidden_act": "silu",
    "hidden_size": 2560, "initializer_range": 0.02, "intermediate_size": 9216,
    "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 8, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
    "linear_value_head_dim": 128, "mamba_ssm_dtype": "float32", "max_position_embeddings": 262144,
    "mlp_only_layers": [], "model_type": "qwen3_5_text", "mtp_num_hidden_layers": 1,
    "mtp_use_dedicated_embeddings": False, "num_attention_heads": 16, "num_hidden_layers": 32,
    "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "tie_word_embeddings": True, "use_cache": True,
    "vocab_size": 248320,
    "rope_parameters": {
        "mrope_interleaved": True, "mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25,
        "rope_theta": 10000000, "rope_type": "default",
    },
}
LFM: dict[str, Any] = {
    "architectures": ["Lfm2ForCausalLM"], "block_auto_adjust_ff_dim": True, "block_dim": 2048,
    "block_ff_dim": 12288, "block_ffn_dim_multiplier": 1.0, "block_mlp_init_scale": 1.0,
    "block_multiple_of": 256, "block_norm_eps": 1e-05, "block_out_init_scale": 1.0, "block_use_swiglu": True,
    "block_use_xavier_init": True, "bos_token_id": 1, "conv_L_cache": 3, "conv_bias": False, "conv_dim": 2048,
    "conv_dim_out": 2048, "conv_use_xavier_init": True, "eos_token_id": 7,
    "full_attn_idxs": [2, 5, 8, 10, 12, 14], "hidden_size": 2048, "initializer_range": 0.02,
    "max_position_embeddings": 128000, "model_type": "lfm2", "norm_eps": 1e-05, "num_attention_heads": 32,
    "num_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pad_token_id": 0,
    "rope_theta": 1000000.0, "torch_dtype": "bfloat16", "use_cache": True, "use_pos_enc": True,
    "vocab_size": 65536,
}
GRANITE: dict[str, Any] = {
    "architectures": ["GraniteMoeHybridForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "attention_multiplier": 0.015625, "bos_token_id": 100257, "embedding_multiplier": 12,
    "eos_token_id": 100257, "hidden_act": "silu", "hidden_size": 2048, "init_method": "mup",
    "initializer_range": 0.1, "intermediate_size": 8192,
    "layer_types": [*["mamba"] * 5, "attention", *["mamba"] * 4] * 4, "logits_scaling": 8,
    "mamba_chunk_size": 256, "mamba_conv_bias": True, "mamba_d_conv": 4, "mamba_d_head": 64,
    "mamba_d_state": 128, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 64,
    "mamba_proj_bias": False, "max_position_embeddings": 131072, "model_type": "granitemoehybrid",
    "normalization_function": "rmsnorm", "num_attention_heads": 32, "num_experts_per_tok": 0,
    "num_hidden_layers": 40, "num_key_value_heads": 8, "num_local_experts": 0,
    "output_router_logits": False, "pad_token_id": 100256, "position_embedding_type": "nope",
    "residual_multiplier": 0.22, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000,
    "router_aux_loss_coef": 0.01, "shared_intermediate_size": 8192, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 100352,
}
# fmt: on


def config_of(values: dict[str, Any], **changes: Any) -> ModelConfig:
    return read_config(Path("config.json"), {**values, **changes}, attention_bias=False)


def test_published_configs_are_read_whole(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        qwen, lfm, granite = config_of(QWEN), config_of(LFM), config_of(GRANITE)
    assert caplog.records == []
    assert (qwen.rope_dim, qwen.rope_theta, qwen.qk_norm, sum(qwen.recurrent_layers)) == (64, 1e7, True, 24)
    state = (qwen.state_heads, qwen.state_head_dim, qwen.state_groups, qwen.state_dim, qwen.conv_kernel)
    assert state == (32, 128, 16, 128, 4)
    # Two thirds of 12,288, a whole multiple of 256; the width of a head from the heads.
    assert (lfm.hidden_dim, lfm.head_dim, lfm.tie_embeddings, lfm.conv_kernel) == (8192, 64, True, 3)
    assert [i for i, state in enumerate(lfm.recurrent_layers) if not state] == [2, 5, 8, 10, 12, 14]
    assert (granite.hidden_dim, granite.state_head_dim, granite.state_dim) == (8192, 64, 128)
    assert granite.rope_layers == (False,) * 40
    assert [i for i, state in enumerate(granite.recurrent_layers) if not state] == [5, 15, 25, 35]


def test_what_config_json_need_not_say() -> None:
    short = {key: value for key, value in QWEN.items() if key not in ("layer_types", "rope_parameters")}
    config = config_of(short)
    assert (config.recurrent_layers, config.rope_dim) == (config_of(QWEN).recurrent_layers, 64)
    every = config_of({key: value for key, value in LFM.items() if key != "full_attn_idxs"})
    assert every.recurrent_layers == ()


def test_a_width_that_is_not_to_be_adjusted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert config_of(LFM, block_auto_adjust_ff_dim=False).hidden_dim == 12288
    assert caplog.records == []


def test_a_granite_whose_layers_all_have_attention_has_no_state() -> None:
    config = config_of(GRANITE, layer_types=["attention"] * 40, position_embedding_type="rope")
    assert (config.recurrent_layers, config.rope_layers) == ((), ())
    assert (config.conv_kernel, config.state_heads, config.state_head_dim, config.state_dim) == (0, 0, 0, 0)


BAD = {
    "layer_types: has 'rwkv'": (QWEN, {"layer_types": ["rwkv"] * 32}),
    "layer_types: has 1 entries for 32": (QWEN, {"layer_types": ["full_attention"]}),
    "attn_output_gate: is false": (QWEN, {"attn_output_gate": False}),
    "num_hidden_layers: is 2,147,483,647": (QWEN, {"num_hidden_layers": (1 << 31) - 1}),
    "conv_kernel is 1": (LFM, {"conv_L_cache": 1}),
    "num_local_experts: says that it has experts": (GRANITE, {"num_local_experts": 64}),
    "time_step_limit: bounds": (GRANITE, {"time_step_limit": [0.0, 0.1]}),
    "normalization_function: is another": (GRANITE, {"normalization_function": "layernorm"}),
    "no multiple of state_groups": (GRANITE, {"mamba_n_groups": 3}),
}


@pytest.mark.parametrize("said", BAD)
def test_what_does_not_run_is_told(said: str) -> None:
    values, changes = BAD[said]
    with pytest.raises(LlamaCoreError, match=said):
        config_of(values, **changes)


def test_infinity_is_no_bound() -> None:
    limits = parse_object(Path("config.json"), "file", b'{"time_step_limit": [0.0, Infinity]}')
    assert config_of(GRANITE, **limits) == config_of(GRANITE)
