"""Rendering a template inside this process with every step counted.

Jinja's sandbox bounds neither time nor memory. Here each loop turn, macro call and new value spends from a
budget, and only operations whose cost is bounded by the values they take and give are allowed: what
is not (padding, powers, formatting, unknown filters) raises `NotMetered`, and the template is rendered in a
child process instead. So between two checks of the clock only a small, bounded amount of work is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import BuiltinMethodType
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace

from llama_core.tokenizers.templates.environment import chat_environment
from llama_core.tokenizers.templates.meter import Meter, MeteredGenerator, NotMetered

# Compiling holds the interpreter's lock, here for up to 60 ms. Published templates have 1 to 10 kB.
MAX_SOURCE = 12_288
BASE_BUDGET = 8_000_000
BUDGET_PER_CHARACTER = 200

_NODES = frozenset(
    """
    Add And Assign AssignBlock Break Call CallBlock Compare Concat CondExpr Const Continue Dict Div ExprStmt
    Filter FilterBlock FloorDiv For Getattr Getitem If Keyword List Macro Mod Mul Name Neg Not NSRef Operand
    Or Output Pair Pos Scope Slice Sub Template TemplateData Test Tuple With
    """.split()  # noqa: SIM905 - a list of 44 quoted names would hide them
)
_FILTERS = frozenset(
    """
    capitalize count d default dictsort first float int items join last length list lower map max min reject
    rejectattr replace reverse select selectattr sort string title tojson trim unique upper
    """.split()  # noqa: SIM905
)
# These apply a test or a filter to each element, without asking the meter in between.
_PER_ELEMENT = frozenset(["map", "reject", "rejectattr", "select", "selectattr"])
_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(
        """
        capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower
        isnumeric isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind
        rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
        """.split()  # noqa: SIM905
    ),
    list: frozenset(["count", "index", "copy"]),
    tuple: frozenset(["count", "index"]),
    dict: frozenset(["copy", "get", "items", "keys", "values"]),
}
_GLOBALS = ("range", "dict", "namespace", "raise_exception", "strftime_now")


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox that counts. `meter` belongs to the rendering that is running."""

    code_generator_class = MeteredGenerator
    meter: Meter

    def concat(self, parts: Iterable[str]) -> str:
        """Output pieces to one string, counted."""
        return self.meter.join(parts)

    def tick(self) -> bool:
        """One step; always True."""
        return self.meter.spend(0)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call what a template may call here, counted; raises NotMetered for anything else."""
        if __obj == __self.tick:
            return __self.tick()
        if isinstance(__obj, BuiltinMethodType):
            owner = __obj.__self__
            if __obj.__name__ not in _METHODS.get(type(owner), ()):
                raise NotMetered(f"the method {__obj.__name__}")
            if isinstance(owner, str) and __obj.__name__ == "replace":
                __self.meter.spend(_replace_cost(owner, *args[:2]))
            elif isinstance(owner, str) and __obj.__name__ == "join":
                args = (list(args[0]),)
                __self.meter.spend(__self.meter.weigh(args[0]) + len(owner) * len(args[0]))
        elif not isinstance(__obj, Macro) and __obj not in __self._callable:
            cycle = getattr(__obj, "__func__", None) is LoopContext.cycle
            if not cycle:
                raise NotMetered(f"a call of {type(__obj).__name__}")
        return __self.meter.charge(super().call(__context, __obj, *args, **kwargs))

    @property
    def _callable(self) -> tuple[Any, ...]:
        functions = (self.globals["raise_exception"], self.globals["strftime_now"])
        return (safe_range, dict, Namespace, *functions)


def _replace_cost(text: str, old: object = "", new: object = "", *_: object) -> int:
    if not (isinstance(old, str) and isinstance(new, str)):
        return 0  # the method itself raises
    return len(text) + (len(text) + 1 if not old else text.count(old)) * len(new)


def metered_environment() -> MeteredEnvironment:
    """The environment of chat templates reduced to what can be metered."""
    environment = chat_environment(MeteredEnvironment)
    environment.meter = Meter(0, 0)

    @pass_context
    def to_text(context: Context, value: object) -> str:
        # Depends on the context so that Jinja does not run it while compiling.
        return environment.meter.text(value)

    def replace(text: object, old: str, new: str, count: int | None = None) -> str:
        string = str(text)
        environment.meter.spend(_replace_cost(string, old, new))
        return string.replace(old, new, -1 if count is None else count)

    def join(values: Iterable[object], d: str = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            raise NotMetered("join by attribute")
        collected = list(map(environment.meter.text, values))
        environment.meter.spend(environment.meter.weigh(collected) + len(d) * len(collected))
        return d.join(collected)

    environment.finalize = to_text
    own: dict[str, Callable[..., Any]] = {"replace": replace, "join": join}
    environment.filters = {name: own.get(name) or environment.filters[name] for name in _FILTERS}
    environment.globals = {name: environment.globals[name] for name in _GLOBALS}
    return environment


def _constant_arguments(node: nodes.Filter) -> bool:
    """Whether what the filter does per element is bounded by the element: no argument can be large."""
    given = [*node.args, *(keyword.value for keyword in node.kwargs)]
    return (
        node.dyn_args is None and node.dyn_kwargs is None and all(isinstance(a, nodes.Const) for a in given)
    )


def prepare(environment: MeteredEnvironment, source: str) -> nodes.Template:
    """The parsed template with a step counted in each loop turn and macro call.

    Raises NotMetered when the template uses something outside the list above, jinja2's errors when it is
    no template.
    """
    if len(source) > MAX_SOURCE:
        raise NotMetered("its length")
    tree = environment.parse(source)
    for node in tree.find_all(nodes.Node):
        name = type(node).__name__
        if name not in _NODES:
            raise NotMetered(name)
        if isinstance(node, nodes.Filter) and node.name not in environment.filters:
            raise NotMetered(f"the filter {node.name}")
        if isinstance(node, nodes.Filter) and node.name in _PER_ELEMENT and not _constant_arguments(node):
            raise NotMetered(f"the filter {node.name} with a computed argument")
        if isinstance(node, nodes.Name) and node.name in ("lipsum", "cycler", "joiner", "self"):
            raise NotMetered(node.name)
    tick = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
    for macro in list(tree.find_all(nodes.Macro)):
        macro.body.insert(0, nodes.ExprStmt(tick))
    for block in list(tree.find_all(nodes.CallBlock)):
        block.body.insert(0, nodes.ExprStmt(tick))
    for loop in list(tree.find_all(nodes.For)):
        loop.body.insert(0, nodes.ExprStmt(tick))
        if loop.recursive:
            raise NotMetered("a recursive loop")
        if loop.test is not None:
            loop.test = nodes.And(tick, loop.test)
    return tree
