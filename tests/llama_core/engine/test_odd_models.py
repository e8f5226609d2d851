"""Models as people have them: any id is drawn and said; what is damaged or foreign is told in a sentence."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llama_core.engine.batch.scheduler import BatchEngine
from llama_core.engine.batch.text import TextRequest, run_texts
from llama_core.engine.load import load_engine
from llama_core.engine.text import TextEngine
from llama_core.errors import NumericalError, UnsupportedModelError
from llama_core.events import Finished, TextDelta, TokenEvent
from llama_core.loaders.convert import convert
from llama_core.sampling.params import SamplingParams
from tests.support import model_files

N_ROWS = 300
# All ids are about as likely as each other.
ANYTHING = SamplingParams(temperature=100.0, top_k=0, top_p=1.0, seed=5, max_tokens=60, ignore_eos=True)


@pytest.fixture(scope="module", params=[260, 299, 301, 340], ids="{}_tokens".format)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextEngine]:
    """A model of N_ROWS ids with a tokenizer of fewer or more tokens."""
    folder = tmp_path_factory.mktemp("padded")
    model_files.write_hf_folder(folder, model_files.TinyModel(vocab_size=N_ROWS, max_seq_len=128))
    model_files.write_tokenizer_json(folder / "tokenizer.json", request.param)
    engine = load_engine(folder, backend="numpy")
    yield engine
    engine.close()


FOREIGN = {
    "sentencepiece": b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02\n\x0c\n\x03<s>\x15\x00\x00\x00\x00",
    "tiktoken": b"IQ== 0\nIg== 1\nIw== 2\n",
}


@pytest.mark.parametrize("whose", FOREIGN)
@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer", "my.json"])
def test_a_tokenizer_in_a_foreign_format_is_named(whose: str, name: str, tmp_path: Path) -> None:
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel())
    (tmp_path / name).write_bytes(FOREIGN[whose])
    with pytest.raises(UnsupportedModelError, match=rf"{whose}'s own format.*tokenizer\.json of the same"):
        load_engine(path, backend="numpy", tokenizer_path=tmp_path / name)


@pytest.mark.parametrize(
    ("name", "value"), [("layers.0.q_proj", np.nan), ("norm", np.inf), ("layers.1.down_proj", 1e38)]
)
def test_damaged_weights_are_told_once(name: str, value: float, tmp_path: Path) -> None:
    """By the sentence, and by no warning before it; alone and in a batch."""
    model = model_files.TinyModel()
    model.weights[name][..., 0] = value
    path = model_files.write_gguf(tmp_path / "m.gguf", model)
    engine = load_engine(path, backend="numpy")
    prompt = engine.encode_raw("the rain")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NumericalError, match="the weights may be damaged"):
            list(engine.generate(prompt, ANYTHING))
        batch = BatchEngine(engine.model, kv_budget_bytes=1 << 24)
        (result,) = run_texts(batch, engine.tokenizer, [TextRequest("a", prompt, ANYTHING)])
    assert isinstance(result.error, NumericalError)
    engine.close()


def test_a_reply_of_any_ids(engine: TextEngine) -> None:
    events = list(engine.complete("the rain", ANYTHING, top_n=N_ROWS))
    drawn = [event.id for event in events if isinstance(event, TokenEvent)]
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert isinstance(events[-1], Finished)
    assert len(drawn) == 60
    assert max(drawn) > 270
    assert text == engine.tokenizer.decode(drawn)
    offered = {i for event in events if isinstance(event, TokenEvent) for i, _ in event.top}
    assert offered == set(range(N_ROWS))
    assert all(engine.tokenizer.token_text(i) for i in offered)


def test_a_batch_of_any_ids(engine: TextEngine) -> None:
    batch = BatchEngine(engine.model, kv_budget_bytes=1 << 24)
    requests = [TextRequest(str(i), engine.encode_raw(f"the {i}"), ANYTHING) for i in range(3)]
    results = list(run_texts(batch, engine.tokenizer, requests))
    assert [result.reason for result in results] == ["length"] * 3


def test_conversion_keeps_it_so(engine: TextEngine, tmp_path: Path) -> None:
    convert(Path(engine.checkpoint.path), tmp_path / "m.gguf", "f32")
    again = load_engine(tmp_path / "m.gguf", backend="numpy")
    drawn = [event for event in engine.complete("the rain", ANYTHING) if isinstance(event, Finished)]
    same = [event for event in again.complete("the rain", ANYTHING) if isinstance(event, Finished)]
    assert drawn[0].ids == same[0].ids
    for i in range(N_ROWS):
        assert again.tokenizer.token_bytes(i) == engine.tokenizer.token_bytes(i)
    assert again.tokenizer.stop_ids == engine.tokenizer.stop_ids
    again.close()
