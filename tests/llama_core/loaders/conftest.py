"""Writers of tiny models, shared by the loaders' tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest


def load_module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def load_tool() -> Callable[[str], ModuleType]:
    """Loads a helper module that stands beside this file, once."""

    @cache
    def load(name: str) -> ModuleType:
        return load_module(f"loader_tests_{name}", Path(__file__).with_name(f"{name}.py"))

    return load


@pytest.fixture(scope="session")
def model_files(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    """The writers of tiny models."""
    return load_tool("model_files")
