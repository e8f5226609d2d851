"""A choice between functions by a number. Numba knows no pointers to functions: `build/control_code.py`
writes a chain of comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Switch:
    """`SWITCH(number, *arguments)` calls the function of that number; 0 where it has none.

    functions: all with the same arguments.
    """

    def __init__(self, name: str, functions: Mapping[int, Callable[..., int | None]]) -> None:
        self.name, self.functions = name, functions

    def __call__(self, number: int, *arguments: object) -> int:
        """The choice in Python; the compiled step has a chain of comparisons instead."""
        function = self.functions.get(number)
        return 0 if function is None else function(*arguments) or 0
