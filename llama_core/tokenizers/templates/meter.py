"""Counting what a template does: the meter, and the code generator that calls it.

The meter is asked before or after every operation that makes a value; between two questions Jinja's code does
only work that the values at hand bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.utils import Namespace

from llama_core.tokenizers.templates.environment import LimitExceededError

# An element costs memory beyond its characters: the pointer, the object's head.
ELEMENT = 32
# Products and quotients of longer numbers take more than linear time.
MAX_BITS = 4096


class NotMetered(Exception):  # noqa: N818 - a change of plan, not an error
    """The template needs something whose cost cannot be bounded here."""


class Meter:
    """What one rendering may still spend: about one unit per character made and per step taken, and
    `seconds` of time, half of them at least computed in this thread. Belongs to one thread."""

    def __init__(self, budget: int, seconds: float) -> None:
        self.left = budget
        self._end = time.monotonic() + seconds
        self._cpu_end = time.thread_time() + seconds / 2

    def spend(self, units: int) -> bool:
        """Take `units`; always True. Raises LimitExceededError."""
        self.left -= units + 1
        if self.left < 0:
            raise LimitExceededError("it produces too much text or too many steps")
        # On a busy machine an honest template may wait long; it is a hostile one that also computes long.
        if time.monotonic() > self._end and time.thread_time() > self._cpu_end:
            raise LimitExceededError("it takes too long")
        return True

    def weigh(self, value: object) -> int:
        """Characters and elements in a value; inner ones count as often as they appear."""
        total = 0
        waiting = [value]
        while waiting:
            item = waiting.pop()
            total += ELEMENT
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, int) and item.bit_length() > MAX_BITS:
                raise LimitExceededError("it builds a number that is too large")
            elif isinstance(item, (list, tuple)):
                waiting += item
            elif isinstance(item, dict):
                waiting += item.keys()
                waiting += item.values()
            elif isinstance(item, Namespace):
                waiting += object.__getattribute__(item, "_Namespace__attrs").values()
            if total + len(waiting) > self.left:
                raise LimitExceededError("it builds a value that is too large")
        return total

    def charge(self, value: Any) -> Any:
        """`value` itself, paid for."""
        self.spend(self.weigh(value))
        return value

    def concat(self, parts: tuple[object, ...]) -> str:
        """The `~` operator: paid for before the strings are joined."""
        return self.join(map(self.text, parts))

    def text(self, value: object) -> str:
        """A value as text. What str() makes of a view or a namespace is paid for when it is known."""
        if isinstance(value, str):
            return value
        self.spend(self.weigh(value))
        text = str(value)
        self.spend(len(text))
        return text

    def join(self, parts: Iterable[str]) -> str:
        """Output pieces to one string; the same large piece may come many times."""
        collected = []
        for part in parts:
            self.spend(len(part))
            collected.append(part)
        return "".join(collected)

    def mod(self, left: Any, right: Any) -> Any:
        """The `%` operator on numbers; on strings it formats, to any width."""
        if isinstance(left, str):
            raise NotMetered("string formatting")
        return left % right

    def mul(self, left: Any, right: Any) -> Any:
        """The `*` operator on numbers; on strings and lists it repeats."""
        if not (isinstance(left, int) and isinstance(right, int)):
            raise NotMetered("repetition")
        return self.charge(left * right)


class MeteredGenerator(CodeGenerator):
    """Jinja's code generator with a call to the meter around everything that makes a value."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.meter.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def _binary(self, function: str, node: nodes.BinExpr, frame: Frame) -> None:
        self.write(f"environment.meter.{function}(")
        self.visit(node.left, frame)
        self.write(", ")
        self.visit(node.right, frame)
        self.write(")")

    def visit_Mod(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802
        self._binary("mod", node, frame)

    def visit_Mul(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802
        self._binary("mul", node, frame)

    def visit_Add(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802
        self.write("environment.meter.charge(")
        super().visit_Add(node, frame)
        self.write(")")

    def visit_Sub(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802
        self.write("environment.meter.charge(")
        super().visit_Sub(node, frame)
        self.write(")")

    def visit_Filter(self, node: nodes.Filter, frame: Frame) -> None:  # noqa: N802
        self.write("environment.meter.charge(")
        super().visit_Filter(node, frame)
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self.write("environment.meter.charge(")
        super().visit_List(node, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self.write("environment.meter.charge(")
        super().visit_Dict(node, frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        metered = node.ctx == "load"
        self.write("environment.meter.charge(" if metered else "")
        super().visit_Tuple(node, frame)
        self.write(")" if metered else "")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        metered = isinstance(node.arg, nodes.Slice)
        self.write("environment.meter.charge(" if metered else "")
        super().visit_Getitem(node, frame)
        self.write(")" if metered else "")
