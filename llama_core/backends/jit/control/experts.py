"""Experts: which a token takes, and the products of those, each over all tokens that take it.

A visit is a token at one of its experts. Visits are sorted by expert, and cut into tiles there, so that an
expert's panels are read once for all its tokens, and the panels of experts that nobody takes never:

    expert    0      2           5         gates and ups read tokens' rows and write visits' rows;
    token     3 | 0  1  3 | 1  2  0        down reads visits' rows and adds to tokens' rows
    visit     0 | 1  2  3 | 4  5  6

An item is a panel of every expert: how many there are does not depend on what tokens choose, as
`schedule.py` needs it, and threads share each expert's work alike. (Of one token's gates and ups it is a
panel of one expert, since how many it takes is known too.) A token's results are added by rising number of
the expert, whoever computes them and however many tokens there are, so that the bits are always the same.
"""

from __future__ import annotations

from llama_core.backends.jit.control.products import (
    ROW_BYTES,
    item_panels,
    multiply_in_parts,
    packed_input,
    prepare,
    visit_of,
)
from llama_core.backends.jit.control.records import (
    CHOICE_BYTES,
    CHOICE_SHARE,
    TILE_BYTES,
    Choice,
    Experts,
    Operation,
    Phase,
    Plan,
    Product,
    Run,
    Worker,
    choice_at,
    experts_at,
    product_at,
    tile_at,
)
from llama_core.backends.jit.kernels.primitives import store_word, word
from llama_core.backends.jit.kernels.routing import choose
from llama_core.backends.jit.kernels.vector import clear_row


def choice_items(plan: Plan, phase: Phase) -> int:
    """CHOOSE_EXPERTS: one for each token."""
    return plan.step.n_tokens


def choose_experts(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """CHOOSE_EXPERTS: the experts of `count` tokens from `first` on."""
    for token in range(first, first + count):
        choose_for(experts_at(phase.operand), token)


def choose_run(plan: Plan, worker: Worker, operation: Operation, run: Run, begin: int, end: int) -> None:
    """CHOOSE: the experts of tokens begin .. end."""
    for token in range(begin, end):
        choose_for(experts_at(operation.operand), token)


def choose_for(experts: Experts, token: int) -> None:
    """The experts of one token, from the router's scores."""
    scores = experts.scores.at + token * experts.scores.stride
    choices = experts.choices.at + token * experts.choices.stride
    choose(scores, experts.n, experts.n_used, experts.over_all, choices)


def visit_items(plan: Plan, phase: Phase) -> int:
    """PREPARE_VISITS: one for each visit, were all tokens computed: a phase without items would never end."""
    return plan.step.n_tokens * experts_at(product_at(phase.operand).experts).n_used


def prepare_visits(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """PREPARE_VISITS: inputs of `count` visits from `first` on, packed where all threads read them."""
    product = product_at(phase.operand)
    experts = experts_at(product.experts)
    group(plan, worker, phase, experts)
    visits = (plan.step.n_tokens - first_token(plan, phase)) * experts.n_used
    for visit in range(first, min(first + count, visits)):
        prepare(plan, worker, product, visit, plan.model.activations)


def expert_items(plan: Plan, phase: Phase) -> int:
    """MULTIPLY_EXPERTS: each panel (or pair) of one expert, which stands for the same one of all; those of
    each expert for itself where they are apart."""
    product = product_at(phase.operand)
    experts = experts_at(product.experts)
    return items_of_one(product) * (experts.n_used if are_apart(plan, product) else 1)


def multiply_experts(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """MULTIPLY_EXPERTS: `count` panels (or pairs) from `first` on of each expert, times its visits; or of the
    chosen experts one after the other, where they are apart."""
    product = product_at(phase.operand)
    experts = experts_at(product.experts)
    group(plan, worker, phase, experts)
    n, apart, own = plan.step.n_tokens, are_apart(plan, product), items_of_one(product)
    activations = packed_input(plan, worker, product, 1 if apart else n * experts.n_used)
    panels = item_panels(product)
    if product.gated == 0 and product.adds == 0:
        for token in range(first_token(plan, phase), n):
            clear_row(product.out.at + token * product.out.stride + first * ROW_BYTES, count * 16)
    item, last, inputs, begin = first, first + count, activations, 0
    for expert in range(experts.n):
        end = word(worker.ends, expert)
        if begin < end:
            start = expert * panels_of(product)
            if apart:  # visit number `begin` has items begin * own and what follows, and all have one input
                item, last = max(0, first - begin * own), min(own, first + count - begin * own)
                inputs = activations - begin * product.matrix.blocks * product.matrix.activation_bytes
            if item < last:
                at, n_panels = item * panels, (last - item) * panels
                multiply_in_parts(plan, worker, product, start, at, n_panels, inputs, begin, end)
        begin = end


def are_apart(plan: Plan, product: Product) -> int:
    """1 where the experts are taken one after the other: the gates and ups of a single token. A thread reads
    few and long streams then, and packs the token once for all of them; sums over experts, which have an
    order, are not made there."""
    return 1 if product.gated and plan.step.is_small and plan.step.n_tokens == 1 else 0


def group(plan: Plan, worker: Worker, phase: Phase, experts: Experts) -> None:
    """Once a phase: its tokens' visits, by expert and then by token, and the tiles of each expert's."""
    if worker.is_grouped:
        return
    worker.is_grouped = 1
    first, n = first_token(plan, phase), plan.step.n_tokens
    for expert in range(experts.n):
        store_word(worker.ends, expert, 0)
    for token in range(first, n):
        for k in range(experts.n_used):
            expert = choice_of(experts, token, k).expert
            store_word(worker.ends, expert, word(worker.ends, expert) + 1)
    begin = 0
    for expert in range(experts.n):  # for now, where each begins
        visits = word(worker.ends, expert)
        store_word(worker.ends, expert, begin)
        cut(plan, worker, begin, begin + visits)
        begin += visits
    for token in range(first, n):
        for k in range(experts.n_used):
            expert = choice_of(experts, token, k).expert
            at = word(worker.ends, expert)
            store_word(worker.ends, expert, at + 1)
            visit = visit_of(worker, at)
            visit.token = token
            visit.share = address_of(experts, token, k) + CHOICE_SHARE


def cut(plan: Plan, worker: Worker, begin: int, end: int) -> None:
    """Cut visits begin .. end into tiles."""
    size = plan.model.largest_tile
    while begin < end:
        while size > end - begin:
            size //= 2
        for i in range(begin, begin + size):
            tile = tile_at(worker.visit_tiles + i * TILE_BYTES)
            tile.first, tile.size = begin, size
        begin += size


def first_token(plan: Plan, phase: Phase) -> int:
    """The first token that the phase computes."""
    return plan.step.unfinished if phase.finishes else 0


def items_of_one(product: Product) -> int:
    """Panels (or pairs of gates and ups) of one expert."""
    return panels_of(product) // item_panels(product)


def panels_of(product: Product) -> int:
    """Panels of one expert."""
    return product.matrix.panels // experts_at(product.experts).n


def choice_of(experts: Experts, token: int, k: int) -> Choice:
    """A token's choice number `k`."""
    return choice_at(address_of(experts, token, k))


def address_of(experts: Experts, token: int, k: int) -> int:
    """Where that choice is."""
    return experts.choices.at + token * experts.choices.stride + k * CHOICE_BYTES
