"""Good models that a hub has, under short names.

Sizes are for a first choice: what a download checks is what the hub itself says of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chat_app.models.installed import HUB_PREFIX

APACHE, MIT = "Apache-2.0", "MIT"
# By the beginnings of names. What a file says of itself counts more.
RECOMMENDED: Mapping[str, Mapping[str, float]] = {
    "smollm2": {"temperature": 0.2, "top_p": 0.9},
    "smollm3": {"temperature": 0.6, "top_p": 0.95},
    "qwen2.5": {"temperature": 0.7, "top_p": 0.8, "top_k": 20},
    "qwen3": {"temperature": 0.6, "top_p": 0.95, "top_k": 20},
    "llama3.2": {"temperature": 0.6, "top_p": 0.9},
    "gemma3": {"temperature": 1.0, "top_p": 0.95, "top_k": 64},
    "gpt-oss": {"temperature": 1.0, "top_p": 1.0, "top_k": 0},
}
LLAMA, GEMMA = "Llama 3.2 licence", "Gemma licence"


@dataclass(frozen=True, slots=True)
class HubModel:
    """One file of one repository. type: as in `hf:OWNER/REPO:TYPE`; gigabytes: of 10^9 bytes, to fetch.

    other_name: what ollama calls it. active: the share of its weights that a token uses.
    """

    name: str
    other_name: str
    repository: str
    type: str
    gigabytes: float
    licence: str
    good_for: str
    active: float = 1.0

    @property
    def recommended(self) -> Mapping[str, float]:
        """How its makers advise to draw its replies, on the page of the model."""
        return next((advice for begin, advice in RECOMMENDED.items() if self.name.startswith(begin)), {})

    @property
    def hub_name(self) -> str:
        """The name by which `models pull` fetches it, `hf:OWNER/REPO:TYPE`."""
        return f"{HUB_PREFIX}{self.repository}:{self.type}"

    @property
    def nbytes(self) -> int:
        """Bytes to fetch, as exact as `gigabytes` is."""
        return round(self.gigabytes * 1e9)

    @property
    def terms(self) -> str:
        """What fetching it means, for people."""
        return f"about {self.gigabytes:g} GB, {self.licence}"


HUB_MODELS: tuple[HubModel, ...] = tuple(
    HubModel(*row)
    for row in (
        ("smollm2-360m", "smollm2:360m", "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF", "Q8_0", 0.39, APACHE,
         "short answers on any machine"),
        ("smollm2-1.7b", "smollm2:1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF", "Q4_K_M", 1.06, APACHE,
         "English chat and summaries"),
        ("smollm3-3b", "smollm3:3b", "ggml-org/SmolLM3-3B-GGUF", "Q4_K_M", 1.92, APACHE,
         "chat in six languages, thinking"),
        ("qwen2.5-0.5b", "qwen2.5:0.5b", "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "Q4_K_M", 0.49, APACHE,
         "quick drafts in many languages"),
        ("qwen2.5-coder-1.5b", "qwen2.5-coder:1.5b", "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "Q4_K_M", 1.12,
         APACHE, "small programs"),
        ("qwen3-0.6b", "qwen3:0.6b", "Qwen/Qwen3-0.6B-GGUF", "Q8_0", 0.64, APACHE,
         "chat and thinking on small machines"),
        ("qwen3-1.7b", "qwen3:1.7b", "Qwen/Qwen3-1.7B-GGUF", "Q8_0", 1.83, APACHE,
         "chat and thinking in many languages"),
        ("qwen3-4b", "qwen3:4b", "Qwen/Qwen3-4B-GGUF", "Q4_K_M", 2.5, APACHE,
         "the best answers below 3 GB; programs, mathematics"),
        ("qwen3-8b", "qwen3:8b", "Qwen/Qwen3-8B-GGUF", "Q4_K_M", 5.03, APACHE,
         "programs, mathematics, long texts"),
        ("qwen3-30b-a3b", "qwen3:30b", "Qwen/Qwen3-30B-A3B-GGUF", "Q4_K_M", 18.6, APACHE,
         "the best answers where 24 GB of memory are free; as quick as a model of 3B", 0.11),
        ("llama3.2-1b", "llama3.2:1b", "bartowski/Llama-3.2-1B-Instruct-GGUF", "Q4_K_M", 0.81, LLAMA,
         "chat and rewriting on small machines"),
        ("llama3.2-3b", "llama3.2:3b", "bartowski/Llama-3.2-3B-Instruct-GGUF", "Q4_K_M", 2.02, LLAMA,
         "chat, summaries, tools"),
        ("gemma3-270m", "gemma3:270m", "ggml-org/gemma-3-270m-it-GGUF", "Q8_0", 0.29, GEMMA,
         "sorting and extracting short texts"),
        ("gemma3-1b", "gemma3:1b", "ggml-org/gemma-3-1b-it-GGUF", "Q4_K_M", 0.81, GEMMA,
         "chat and writing on small machines"),
        ("gemma3-4b", "gemma3:4b", "ggml-org/gemma-3-4b-it-GGUF", "Q4_K_M", 2.49, GEMMA,
         "writing, many languages"),
        ("phi4-mini", "phi4-mini:3.8b", "unsloth/Phi-4-mini-instruct-GGUF", "Q4_K_M", 2.49, MIT,
         "reasoning and mathematics in English"),
        ("granite3.3-2b", "granite3.3:2b", "ibm-granite/granite-3.3-2b-instruct-GGUF", "Q4_K_M", 1.55, APACHE,
         "answers from given texts"),
        ("granite3.3-8b", "granite3.3:8b", "ibm-granite/granite-3.3-8b-instruct-GGUF", "Q4_K_M", 4.94, APACHE,
         "answers from given texts, tools"),
        ("olmo2-1b", "olmo2:1b", "allenai/OLMo-2-0425-1B-Instruct-GGUF", "Q4_K_M", 0.94, APACHE,
         "studying a model whose training is open"),
        ("olmo2-7b", "olmo2:7b", "allenai/OLMo-2-1124-7B-Instruct-GGUF", "Q4_K_M", 4.47, APACHE,
         "the same, with better answers"),
        ("gpt-oss-20b", "gpt-oss:20b", "ggml-org/gpt-oss-20b-GGUF", "MXFP4", 12.1, APACHE,
         "reasoning where 16 GB of memory are free", 0.17),
    )
)  # fmt: skip


def hub_model(name: str) -> HubModel | None:
    """The model of that short name, or of ollama's (case does not matter), or None."""
    wanted = name.strip().lower()
    return next((model for model in HUB_MODELS if wanted in (model.name, model.other_name)), None)


def full_name(name: str) -> str:
    """What the hub calls the model of a short name; any other name as it is."""
    found = hub_model(name)
    return found.hub_name if found else name
