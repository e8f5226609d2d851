"""A small language for vector code: Python expressions that write LLVM IR through llvmlite.

A kernel is an ordinary Python function that receives a `Code` and writes instructions into it. Python's own
`for` loops and `if`s run while the kernel is being written, so they unroll and specialise; loops that
remain in the machine code are written with `code.loop(...)`. Values are LLVM vectors of a fixed width
(sixteen float32 wherever nothing else is said): LLVM splits them for narrower machines, and since no
"fast math" flag is ever set, every machine computes the same bits.

    x = code.load(F32x16, address)          # sixteen floats
    y = fma(x, code.splat(F32x16, 2.0), y)  # one instruction
    code.store(y, address)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

I8, I16, I32, I64 = (ir.IntType(n) for n in (8, 16, 32, 64))
F16, F32 = ir.HalfType(), ir.FloatType()


class _BFloat16(ir.Type):  # type: ignore[misc]  # llvmlite has no types
    """LLVM's bfloat, which llvmlite lacks: for what an instruction takes, not for arithmetic."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat16)

    def __hash__(self) -> int:
        return hash(_BFloat16)


BF16 = _BFloat16()
F32x16 = ir.VectorType(F32, 16)
I32x16 = ir.VectorType(I32, 16)
I8x16 = ir.VectorType(I8, 16)


def vector(scalar: Any, lanes: int) -> Any:
    """The type of `lanes` such scalars."""
    return ir.VectorType(scalar, lanes)


def like(type_: Any, scalar: Any) -> Any:
    """`scalar`, or a vector of it with as many lanes as `type_`."""
    return vector(scalar, type_.count) if isinstance(type_, ir.VectorType) else scalar


def element(type_: Any) -> Any:
    """The type of one lane."""
    return type_.element if isinstance(type_, ir.VectorType) else type_


def is_float(type_: Any) -> bool:
    """Whether the type, or a vector's element, is float32 or of 16 bits."""
    return isinstance(element(type_), ir.FloatType | ir.HalfType | _BFloat16)


class Value:
    """An LLVM value with arithmetic. Integers are signed where it matters; both sides have one type, or the
    right one is a Python number."""

    __slots__ = ("code", "ir")

    def __init__(self, code: Code, value: Any) -> None:
        self.code = code
        self.ir = value

    @property
    def type(self) -> Any:
        """As llvmlite has it: a number's or a vector's."""
        return self.ir.type

    def _binary(self, other: Value | float, for_int: str, for_float: str) -> Value:
        right = self.code.as_value(other, self.type)
        name = for_float if is_float(self.type) else for_int
        return Value(self.code, getattr(self.code.builder, name)(self.ir, right.ir))

    def __add__(self, other: Value | float) -> Value:
        return self._binary(other, "add", "fadd")

    def __sub__(self, other: Value | float) -> Value:
        return self._binary(other, "sub", "fsub")

    def __mul__(self, other: Value | float) -> Value:
        return self._binary(other, "mul", "fmul")

    def __truediv__(self, other: Value | float) -> Value:
        return self._binary(other, "sdiv", "fdiv")

    def __and__(self, other: Value | int) -> Value:
        return self._binary(other, "and_", "")

    def __xor__(self, other: Value | int) -> Value:
        return self._binary(other, "xor", "")

    def __lshift__(self, other: Value | int) -> Value:
        return self._binary(other, "shl", "")

    def __rshift__(self, other: Value | int) -> Value:
        """Logical: zeros come in from the left."""
        return self._binary(other, "lshr", "")

    def shift_right_signed(self, other: Value | int) -> Value:
        """An arithmetic shift: the sign fills the places that become free."""
        return self._binary(other, "ashr", "")

    def to(self, type_: Any) -> Value:
        """Convert the number: int to float and back (toward zero), float16 to float32, sign-extending."""
        source, target = element(self.type), element(type_)
        if is_float(source) and is_float(target):
            name = "fpext" if isinstance(source, ir.HalfType) else "fptrunc"
        elif is_float(source):
            name = "fptosi"
        elif is_float(target):
            name = "sitofp"
        else:
            name = "sext" if source.width < target.width else "trunc"
        return Value(self.code, getattr(self.code.builder, name)(self.ir, type_))

    def zero_extend(self, type_: Any) -> Value:
        """The same unsigned number in a wider type."""
        return Value(self.code, self.code.builder.zext(self.ir, type_))

    def bits(self, type_: Any) -> Value:
        """The same bits read as another type."""
        return Value(self.code, self.code.builder.bitcast(self.ir, type_))

    def lane(self, index: int) -> Value:
        """One number of a vector, by a constant index."""
        return Value(self.code, self.code.builder.extract_element(self.ir, ir.Constant(I32, index)))

    def splat(self, lanes: int = 16) -> Value:
        """This scalar in every lane."""
        builder, type_ = self.code.builder, ir.VectorType(self.type, lanes)
        undefined = ir.Constant(type_, ir.Undefined)
        first = builder.insert_element(undefined, self.ir, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, lanes), None)
        return Value(self.code, builder.shuffle_vector(first, undefined, zeros))

    def shuffle(self, indices: Sequence[int]) -> Value:
        """Lanes picked by number."""
        mask = ir.Constant(ir.VectorType(I32, len(indices)), [ir.Constant(I32, i) for i in indices])
        return Value(self.code, self.code.builder.shuffle_vector(self.ir, self.ir, mask))

    def compare(self, relation: str, other: Value | float) -> Value:
        """Lane by lane `<`, `<=`, `==`, ...: a vector of bits for `select`."""
        right = self.code.as_value(other, self.type)
        b = self.code.builder
        write = b.fcmp_ordered if is_float(self.type) else b.icmp_signed
        return Value(self.code, write(relation, self.ir, right.ir))


class Variable:
    """A value that loops may change. LLVM turns the stack slot into a register."""

    __slots__ = ("code", "slot")

    def __init__(self, code: Code, initial: Value) -> None:
        self.code = code
        with code.builder.goto_entry_block():
            self.slot = code.builder.alloca(initial.type)
        self.set(initial)

    def get(self) -> Value:
        """What it holds now."""
        return Value(self.code, self.code.builder.load(self.slot))

    def set(self, value: Value) -> None:
        """Change what it holds."""
        self.code.builder.store(value.ir, self.slot)


class Code:
    """One kernel being written: `args` are its int64 arguments (addresses and sizes)."""

    def __init__(self, module: Any, name: str, n_args: int, returns: Any = None) -> None:
        type_ = ir.FunctionType(returns or ir.VoidType(), [I64] * n_args)
        self.module = module
        self.function = ir.Function(module, type_, name)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        # The entry block only holds stack slots, so that a slot made inside a loop exists once.
        body = self.function.append_basic_block("body")
        self.builder.branch(body)
        self.builder.position_at_end(body)
        self.args = [Value(self, arg) for arg in self.function.args]

    def as_value(self, number: Value | float, type_: Any) -> Value:
        """A number as a constant of the type, in all lanes of a vector; a Value as it is."""
        return number if isinstance(number, Value) else self.splat(type_, number)

    def splat(self, type_: Any, number: float) -> Value:
        """A constant in every lane."""
        constant = ir.Constant(element(type_), number)
        if isinstance(type_, ir.VectorType):
            constant = ir.Constant(type_, [constant] * type_.count)
        return Value(self, constant)

    def gather(self, numbers: Sequence[Value]) -> Value:
        """Numbers side by side, as a vector."""
        gathered = ir.Constant(vector(numbers[0].type, len(numbers)), ir.Undefined)
        for i, number in enumerate(numbers):
            gathered = self.builder.insert_element(gathered, number.ir, ir.Constant(I32, i))
        return Value(self, gathered)

    def lane_numbers(self, lanes: int) -> Value:
        """0, 1, ... as int32."""
        return Value(self, ir.Constant(vector(I32, lanes), [ir.Constant(I32, i) for i in range(lanes)]))

    def var(self, initial: Value) -> Variable:
        """A variable that begins with this value and has its type."""
        return Variable(self, initial)

    def _pointer(self, address: Value, type_: Any) -> Any:
        return self.builder.inttoptr(address.ir, type_.as_pointer())

    def load(self, type_: Any, address: Value, align: int | None = None) -> Value:
        """`align` bytes are promised by the caller; without it, one lane's size."""
        loaded = self.builder.load(self._pointer(address, type_), align=align or lane_bytes(type_))
        return Value(self, loaded)

    def store(self, value: Value, address: Value, align: int | None = None) -> None:
        """Write to memory. align: bytes; without it, those of one lane."""
        pointer = self._pointer(address, value.type)
        self.builder.store(value.ir, pointer, align=align or lane_bytes(value.type))

    def load_splat(self, scalar_type: Any, address: Value, lanes: int = 16) -> Value:
        """One number from memory in every lane (on AVX-512 an operand of the instruction that uses it)."""
        return self.load(scalar_type, address).splat(lanes)

    def prefetch(self, address: Value) -> None:
        """Ask for the cache line at `address`, which need not be valid."""
        pointer = Value(self, self._pointer(address, I8))
        self.call("llvm.prefetch.p0", ir.VoidType(), pointer, 0, 3, 1)

    def keep_order(self) -> None:
        """Nothing that touches memory moves across this line; no instruction is written.

        Left alone, LLVM's scheduler gathers the loads of a long unrolled body at its top, runs out of
        registers and spills.
        """
        nothing = ir.FunctionType(ir.VoidType(), [])
        self.builder.asm(nothing, "", "~{memory}", [], side_effect=True)

    def pin(self, value: Value) -> Value:
        """The same value, for the scheduler: computed before what is written after this line. (Arithmetic is
        free to move across `keep_order`, and LLVM makes such use of it that a long body spills.) For x86."""
        type_ = ir.FunctionType(value.type, [value.type])
        return Value(self, self.builder.asm(type_, "", "=x,0", [value.ir], side_effect=True))

    def call(self, name: str, returns: Any, *args: Value | int) -> Value:
        """Call an LLVM intrinsic (Python ints are passed as the immediates some take)."""
        values = [a.ir if isinstance(a, Value) else ir.Constant(I32, a) for a in args]
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(returns, [v.type for v in values]), name)
        return Value(self, self.builder.call(self.module.globals[name], values))

    @contextmanager
    def loop(self, start: Value | int, stop: Value | int, step: int = 1) -> Iterator[Value]:
        """`for i in range(start, stop, step)` in the machine code."""
        stop = self.as_value(stop, I64)
        counter = self.var(self.as_value(start, I64))
        head, body, done = (self.function.append_basic_block(n) for n in ("head", "loop", "done"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        index = counter.get()
        self.builder.cbranch(index.compare("<", stop).ir, body, done)
        self.builder.position_at_end(body)
        yield index
        counter.set(index + step)
        self.builder.branch(head)
        self.builder.position_at_end(done)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """`if condition:` in the machine code."""
        with self.builder.if_then(condition.ir):
            yield

    def choose(self, number: Value, functions: Mapping[int, Any], args: Sequence[Value]) -> None:
        """Call the function that `number` names; none for a number without one."""
        done = self.function.append_basic_block("chosen")
        switch = self.builder.switch(number.ir, done)
        for key, function in functions.items():
            case = self.function.append_basic_block("case")
            switch.add_case(ir.Constant(I64, key), case)
            self.builder.position_at_end(case)
            self.builder.call(function, [a.ir for a in args])
            self.builder.branch(done)
        self.builder.position_at_end(done)

    def finish(self, result: Value | None = None) -> None:
        """End the kernel."""
        if result is None:
            self.builder.ret_void()
        else:
            self.builder.ret(result.ir)


def lane_bytes(type_: Any) -> int:
    """Bytes of the type, or of a vector's element."""
    scalar = element(type_)
    if isinstance(scalar, ir.HalfType):
        return 2
    return 4 if isinstance(scalar, ir.FloatType) else int(scalar.width) // 8
