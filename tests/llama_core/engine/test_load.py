"""Which backend runs, and what happens where the compiled one cannot."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llama_core
from llama_core import load_engine
from llama_core import loaders as loaders_module
from llama_core.backends import jit
from llama_core.backends.numpy.clocked import NAMES
from llama_core.backends.step_watch import StepWatch
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.engine.drafting.attach import add_draft_model
from llama_core.errors import (
    KernelsUnavailableError,
    LlamaCoreError,
    NotEnoughMemoryError,
    UnsupportedModelError,
)
from llama_core.quant.table import F32
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizers.templates.worker import SHARED


@pytest.fixture
def toy_file(make_toy: Callable[..., Any], byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path that opens as a toy model with a vocabulary of bytes."""
    toy = make_toy(vocab_size=260, dim=64, hidden_dim=64, n_heads=4, n_kv_heads=2, head_dim=16)
    tensors = {
        name: Tensor(name, a.shape, F32, np.atleast_2d(np.ascontiguousarray(a)).view(np.uint8))
        for name, a in toy.tensors.items()
    }
    checkpoint = Checkpoint(Path("toy.gguf"), "gguf", 0, toy.config, tensors, byte_tokenizer)
    monkeypatch.setattr(loaders_module, "open_checkpoint", lambda path, tokenizer_path=None: checkpoint)
    return Path("toy.gguf")


def works(engine: Any) -> bool:
    events = list(engine.complete("hello", SamplingParams(max_tokens=3, ignore_eos=True, seed=1)))
    return len(events[-1].ids) == 3


def test_numpy_when_asked_for(toy_file: Path) -> None:
    engine = load_engine(toy_file, backend="numpy", threads=1, ctx_size=100)
    assert (engine.backend, engine.ctx_size, engine.model.threads) == ("numpy float32", 100, 1)
    assert works(engine)
    engine.close()


@pytest.mark.parametrize("template", [None, "{{ messages[0].content }}"])
def test_what_renders_templates_starts_beside_the_load(
    toy_file: Path, monkeypatch: pytest.MonkeyPatch, template: str | None
) -> None:
    """Its process is there before the first weight is; none is begun for a model without a template."""
    opened = loaders_module.open_checkpoint(toy_file)
    monkeypatch.setattr(loaders_module, "open_checkpoint", lambda *_: replace(opened, chat_template=template))
    started: list[bool] = []
    SHARED.close()
    engine = load_engine(
        toy_file, backend="numpy", on_progress=lambda _: started.append(SHARED.pid is not None)
    )
    engine.close()
    assert set(started) == {template is not None}


def test_numpy_tells_a_watch_what_its_operations_take(toy_file: Path) -> None:
    watch = StepWatch()
    engine = load_engine(toy_file, backend="numpy", threads=1, ctx_size=100, watch=watch)
    assert works(engine)
    assert watch.take() is None
    watch.on = True
    assert works(engine)
    found = watch.take()
    engine.close()
    assert found is not None
    assert {one.name for one in found.operations} == set(NAMES.values())
    layers = engine.model.config.n_layers
    assert {len(one.by_layer) for one in found.operations if one.name != "head"} == {layers}


def test_the_tokenizer_builds_its_tables_while_weights_load(
    toy_file: Path, byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = threading.Event()
    encode = byte_tokenizer.encode

    def watched(text: str, *, special: bool = False) -> Any:
        ids = encode(text, special=special)
        encoded.set()
        return ids

    monkeypatch.setattr(byte_tokenizer, "encode", watched)
    in_time: list[bool] = []
    load_engine(toy_file, backend="numpy", on_progress=lambda _: in_time.append(encoded.wait(10))).close()
    assert in_time
    assert all(in_time)


def test_a_tokenizer_that_fails_aside_fails_where_it_is_asked(
    toy_file: Path, byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(text: str, *, special: bool = False) -> Any:
        raise RuntimeError("no table")

    monkeypatch.setattr(byte_tokenizer, "encode", fails)
    with pytest.raises(RuntimeError, match="no table"):  # by who looks for its marks of a thought
        load_engine(toy_file, backend="numpy")
    assert capsys.readouterr().err == ""


def test_auto_is_numpy_where_jit_cannot_run(toy_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "jit_available", lambda: "no compiler")
    assert works(load_engine(toy_file))
    with pytest.raises(LlamaCoreError, match="cannot run here: no compiler"):
        load_engine(toy_file, backend="jit")


def test_auto_is_numpy_where_jit_breaks(
    toy_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A person is told in one line; the log has the rest."""

    def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("the compiler gave up")

    monkeypatch.setattr(jit, "jit_available", lambda: None)
    monkeypatch.setattr(jit, "load_jit_model", breaks)
    caplog.set_level(logging.INFO, logger="llama_core")
    engine = load_engine(toy_file)
    assert engine.backend == "numpy float32"
    assert works(engine)
    [told] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == "the compiled backend failed: the compiler gave up; NumPy runs instead"
    assert "Traceback" in caplog.text
    with pytest.raises(LlamaCoreError, match="the compiler gave up"):
        load_engine(toy_file, backend="jit")


def test_auto_is_numpy_where_the_system_forbids_what_jit_needs(
    toy_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise KernelsUnavailableError("the system refuses to make memory executable")

    monkeypatch.setattr(jit, "jit_available", lambda: None)
    monkeypatch.setattr(jit, "load_jit_model", forbidden)
    engine = load_engine(toy_file)
    assert engine.backend == "numpy float32"
    assert works(engine)
    assert "refuses to make memory executable; NumPy runs instead" in caplog.text
    assert "Traceback" not in caplog.text
    with pytest.raises(KernelsUnavailableError, match="refuses to make memory executable"):
        load_engine(toy_file, backend="jit")


def test_a_model_that_memory_cannot_hold_is_an_error_on_every_backend(
    toy_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any, **__: Any) -> None:
        raise NotEnoughMemoryError("The model", 10, 5, "take a smaller one")

    monkeypatch.setattr(jit, "jit_available", lambda: None)
    monkeypatch.setattr(jit, "load_jit_model", too_large)
    with pytest.raises(NotEnoughMemoryError):
        load_engine(toy_file)


def test_jit_gets_what_the_caller_said(toy_file: Path, monkeypatch: pytest.MonkeyPatch, saying: Any) -> None:
    given: dict[str, Any] = {}

    def load(checkpoint: Checkpoint, **settings: Any) -> Any:
        given.update(settings)
        return saying("x")

    monkeypatch.setattr(jit, "jit_available", lambda: None)
    monkeypatch.setattr(jit, "load_jit_model", load)
    engine = load_engine(toy_file, threads=3, kv="q8", kernel_cache=Path("kernels"))
    assert engine.backend == "scripted"
    assert (given["threads"], given["kv"], given["kernel_cache"]) == (3, "q8", Path("kernels"))


def test_a_failure_after_the_model_was_made_closes_it(
    toy_file: Path, monkeypatch: pytest.MonkeyPatch, saying: Any
) -> None:
    model = saying("x")
    monkeypatch.setattr(jit, "jit_available", lambda: None)
    monkeypatch.setattr(jit, "load_jit_model", lambda *_, **__: model)
    with pytest.raises(ValueError, match="ctx_size"):
        load_engine(toy_file, ctx_size=0)
    assert model.closed == 1


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, llama_core; llama_core.SamplingParams; llama_core.events; llama_core.errors;"
        "print([m for m in ('numpy', 'numba', 'jinja2', 'psutil', 'regex') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_public_names() -> None:
    assert set(llama_core.__all__) <= set(dir(llama_core))
    for name in llama_core.__all__:
        assert getattr(llama_core, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        llama_core.nothing_of_the_kind


def test_a_draft_model_changes_no_reply(toy_file: Path, kernel_cache: Path) -> None:
    params = SamplingParams(temperature=0.8, max_tokens=60, ignore_eos=True, seed=3)
    engine = load_engine(toy_file, backend="jit", threads=1, ctx_size=100, kernel_cache=kernel_cache)
    plain = list(engine.complete("hello", params))[-1]
    engine.reset()
    add_draft_model(engine, toy_file, kernel_cache=kernel_cache)
    assert engine.memory().draft_bytes > 0
    drafted = list(engine.complete("hello", params))[-1]
    assert drafted.ids == plain.ids
    assert drafted.timings.draft_accepted_n > 0, "a twin is often right"
    engine.close()


def test_a_draft_model_of_another_vocabulary_is_refused(
    toy_file: Path, kernel_cache: Path, byte_tokenizer_class: Any
) -> None:
    class Shifted(byte_tokenizer_class):  # type: ignore[misc]
        def token_bytes(self, token_id: int) -> bytes:
            data: bytes = super().token_bytes(token_id)
            return data.upper() if token_id == ord("q") else data

    engine = load_engine(toy_file, backend="jit", threads=1, ctx_size=100, kernel_cache=kernel_cache)
    engine.tokenizer = Shifted()
    drafter = engine.engine.drafter
    with pytest.raises(UnsupportedModelError, match="token 113 is 'q' here and"):
        add_draft_model(engine, toy_file, kernel_cache=kernel_cache)
    assert engine.engine.drafter is drafter
    engine.close()
    with pytest.raises(LlamaCoreError, match="needs the compiled backend"):
        add_draft_model(load_engine(toy_file, backend="numpy"), toy_file)
