"""Kernels and primitives, each declared once: by the function that writes it.

    @kernel()
    def add_row(code: Code, x: Value, y: Value, count: Value) -> None:
        "x += y: `count` float32."
        ...

The decorated name is what control code imports and calls, `add_row(x, y, count)`, all int64; Numba binds it
to the machine code of the same name. What Numba does not see are the arguments that are settled while the
kernel is written: `isa`, and choices, of which each combination becomes a function of its own. Of those the
first arguments of the call choose one:

    @kernel(kind=..., tile=...)
    def matmul(code: Code, isa: Isa, kind: PackedKind, tile: int, weights: Value, ...) -> None: ...

    matmul_q4_1, matmul_q4_2, ..., matmul_q8_8     the functions
    matmul(kind, tile, weights, ...)               chooses by PackedKind.code and the tile's size

A kernel is worth a call. A primitive is an instruction or two, and is inlined. Two of one name are an error.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.emit import Code, Value

# The values that a choice has on an instruction set, by the number that names each in a call.
Choice = Callable[[Isa], Mapping[int, Any]]
# Numbers of a choice are below this; several of them make one number to switch on.
CHOICES = 1 << 8


class Kernel:
    """A function of machine code. `parameters`: the names of its arguments, all int64."""

    def __init__(
        self, write: Callable[..., Value | None], choices: Mapping[str, Choice], returns: Any, inline: bool
    ) -> None:
        self.name = write.__name__
        self.__doc__ = write.__doc__
        self.returns, self.inline = returns, inline
        self._write, self._choices = write, choices
        names = list(inspect.signature(write).parameters)
        self._takes_isa = "isa" in names
        self._runtime = [name for name in names if name not in ("code", "isa", *choices)]
        self.parameters = (*choices, *self._runtime)

    def __call__(self, *arguments: int) -> int:
        """Raises TypeError: this declares the call for code that is compiled."""
        raise TypeError(f"{self.name} runs in compiled code only")

    def variant(self, *values: Any) -> str:
        """The name of the function for these values of its choices."""
        return "_".join([self.name, *(str(getattr(value, "name", value)) for value in values)])

    def emit(self, module: Any, isa: Isa, left_out: Collection[Any] = ()) -> None:
        """Write it into an LLVM module: one function for each combination of choices, and what chooses.

        left_out: values of choices that nobody will ask for; what chooses does nothing for them.
        """
        functions = {}
        for number, values in self._combinations(isa):
            if any(value in left_out for value in values):
                continue
            self._emit(module, isa, self.variant(*values), dict(zip(self._choices, values, strict=True)))
            functions[number] = module.globals[self.variant(*values)]
        if self._choices:
            code = Code(module, self.name, len(self.parameters))
            n = len(self._choices)
            chosen = code.args[0]
            for following in code.args[1:n]:
                chosen = chosen * CHOICES + following
            code.choose(chosen, functions, code.args[n:])
            code.finish()

    def _combinations(self, isa: Isa) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Each combination of choices, with the number that they make together."""
        for combination in itertools.product(*(choice(isa).items() for choice in self._choices.values())):
            number = 0
            for chosen, _ in combination:
                number = number * CHOICES + chosen
            yield number, tuple(value for _, value in combination)

    def _emit(self, module: Any, isa: Isa, name: str, settled: dict[str, Any]) -> None:
        code = Code(module, name, len(self._runtime), self.returns)
        if self.inline:
            code.function.attributes.add("alwaysinline")
        if self._takes_isa:
            settled["isa"] = isa
        arguments = dict(zip(self._runtime, code.args, strict=True))
        code.finish(self._write(code=code, **settled, **arguments))


# All there are, by name.
DECLARED: dict[str, Kernel] = {}


def kernel(**choices: Choice) -> Callable[[Callable[..., None]], Kernel]:
    """Declare a kernel; see above. Raises ValueError for a name that another has."""
    return _declare(choices, None, inline=False)


def primitive(returns: Any = None) -> Callable[[Callable[..., Value | None]], Kernel]:
    """Declare a primitive, and the type of what it returns. Raises ValueError for a name that another has."""
    return _declare({}, returns, inline=True)


def _declare(
    choices: Mapping[str, Choice], returns: Any, *, inline: bool
) -> Callable[[Callable[..., Value | None]], Kernel]:
    def declare(write: Callable[..., Value | None]) -> Kernel:
        if write.__name__ in DECLARED:
            raise ValueError(f"two kernels are named {write.__name__}")
        DECLARED[write.__name__] = made = Kernel(write, choices, returns, inline)
        return made

    return declare
