"""The worker's numbers in Prometheus's text format (exposition format 0.0.4)."""

from __future__ import annotations

from chat_app.serve.worker import Load

# name, type, help, field of Load
_METRICS = (
    ("requests_total", "counter", "Requests since the start.", "requests"),
    ("prompt_tokens_total", "counter", "Tokens of prompts since the start.", "prompt_tokens"),
    ("prompt_tokens_reused_total", "counter", "Tokens of prompts that were known already.", "reused_tokens"),
    ("tokens_drawn_total", "counter", "Tokens of replies since the start.", "drawn_tokens"),
    ("tokens_per_second", "gauge", "Tokens of replies in the last seconds.", "tokens_per_s"),
    ("requests_running", "gauge", "Requests that share each pass now.", "running"),
    ("requests_waiting", "gauge", "Requests that wait.", "waiting"),
    ("kv_bytes", "gauge", "Keys and values of running requests.", "kv_bytes"),
    ("prefix_bytes", "gauge", "Keys and values kept for later requests.", "prefix_bytes"),
    ("uptime_seconds", "gauge", "Since the start.", "uptime_s"),
)


def prometheus(load: Load) -> str:
    """One block a metric."""
    blocks = [
        f"# HELP llama_chat_{name} {text}\n# TYPE llama_chat_{name} {kind}\n"
        f"llama_chat_{name} {getattr(load, field):.10g}\n"
        for name, kind, text, field in _METRICS
    ]
    return "".join(blocks)
