"""A request that cannot be honoured, in OpenAI's words."""

from __future__ import annotations

import json
from typing import Any


class BadRequest(ValueError):  # noqa: N818 - the request is bad, the service goes on
    """A request that cannot be honoured. The text says why; `code` and `param` are OpenAI's words for it."""

    def __init__(self, problem: str, code: str = "invalid_value", param: str | None = None) -> None:
        self.code, self.param = code, param
        super().__init__(problem)


def short(value: Any) -> str:
    """A value of a request for a message: as JSON, and not without end."""
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:79] + "…"


def missing(param: str, value: Any) -> tuple[str, str]:
    """(code, param) of a field that is not there, or is there as something else."""
    return "missing_required_parameter" if value is None else "invalid_type", param
