"""The records that a step reads and that Python writes (see `record.py`), from the whole to the parts.

Plan    the threads, and two parts:
  Model   what is fixed when a model is loaded
  Step    what changes from step to step: tokens, and which phases to run
Worker  a thread's own memory

Phase   one line of the table that a step runs; `program.py` makes it from the model's operations:
  Operation   Product (rows times a Matrix), Norm (of rows), Experts (which tokens take), Attention (of one
              layer, with its Rope), or what a layer with a state has instead, Convolution and Memory

Token, Tile, Span, Run   how the step's tokens are cut
Shared  what threads agree by
"""

from __future__ import annotations

from llama_core.backends.jit.layout import LINE_BYTES
from llama_core.backends.jit.record import Part, Pointer, Record, Word
from llama_core.choices import MAX_THREADS

PANELS_AT_ONCE = 8  # the most of a matrix that all tiles of a step take, one after the other (`plan.py`)

# What an operation is.
PRODUCT, APPEND, ATTEND, NORM, CHOOSE, EXPERTS, CONVOLVE, RECUR = range(8)
# How threads share one out (`phases.py` says what each does).
PREPARE, MULTIPLY, NORM_ROWS, APPEND_TOKENS, ATTEND_BLOCKS, ATTEND_SPANS, RUN_TOKENS = range(7)
CHOOSE_EXPERTS, PREPARE_VISITS, MULTIPLY_EXPERTS, CONVOLVE_CHANNELS, RECUR_HEADS = range(7, 12)
# The activations of a feed-forward, Product.gated.
SILU, GELU_TANH, CLAMPED_SWIGLU = 1, 2, 3


class Shared(Record, spacing=LINE_BYTES):
    """What threads agree by. Each word has a cache line of its own, so that they do not slow each other down.
    Behind it: a line per thread that says whether it sleeps, and a line per thread with its cursor."""

    current = Word("the phase that is open")
    done = Word("items of it that are finished")
    end = Word("the phase after the step's last")
    alone = Word("1: helpers keep out (see `schedule.wait`)")
    stop = Word("1: helpers return")


CURRENT, DONE, END = Shared.current.offset, Shared.done.offset, Shared.end.offset
ALONE, STOP = Shared.alone.offset, Shared.stop.offset
SLEEPING = Shared.nbytes  # per thread: 1 while it sleeps
CURSORS = SLEEPING + LINE_BYTES * MAX_THREADS  # per thread: phase << 24 | next item of its share
SHARED_BYTES = CURSORS + LINE_BYTES * MAX_THREADS


class Rows(Record):
    """A buffer of float32 with one row per token."""

    at = Word("address of row 0")
    stride = Word("bytes from one row to the next")

    def shifted(self, nbytes: int) -> Rows:
        """The same rows from byte `nbytes` of each on."""
        rows = Rows()
        rows.at, rows.stride = self.at + nbytes, self.stride
        return rows


class Panel(Record):
    """One panel of a packed matrix."""

    kind = Word("PackedKind.code")
    weights = Word("address of its blocks")
    alike = Word("panels from it on that are of this kind and follow each other in memory")


class Matrix(Record):
    """One packed matrix (drawn in `layout.py`)."""

    panels = Word("panels of 16 rows")
    blocks = Word("blocks of 32 columns in a panel")
    activation_bytes = Word("bytes of a block of a packed input row: int8, float32 or both")
    scale_columns = Word("columns of a packed input row that share a scale")
    panels_at_once = Word("how many panels all tiles of a step take, one after the other")
    records = Word("address of a Panel for each")


class Product(Record):
    """out = input @ matrix.T + bias, or out += that, for every row of a step."""

    source = Part(Rows, "the input's rows")
    norm = Word("address of the RMSNorm weights that the input is multiplied by, float32; 0: no norm")
    width = Word("numbers of an input row, padded to 32")
    numbers = Word("address of three float32: 1 / width, eps of the norm, outlier threshold squared")
    heads_of = Word("address of the Attention whose output is the input, 0 for none: a small step merges it")
    of_logits = Word("1: the rows are those of Step.logit_rows, not all tokens")
    matrix = Part(Matrix, "the weights")
    bias = Word("address of a float32 per row of the matrix, padded to 32; 0: no bias")
    out = Part(Rows, "the results' rows")
    adds = Word("1: out += (the residual stream)")
    gated = Word("SILU, ...: panels of gates and ups in turn, and out = activation(gate) * up; 0: no")
    scale = Word("address of a float32 that results are multiplied by (logits); 0: none")
    softcap = Word("address of a float32 c: results become c * tanh(result / c) (logits); 0: they do not")
    experts = Word("address of the Experts whose matrices follow each other in `matrix`; 0: it is one")


class Experts(Record):
    """The experts of one layer."""

    n = Word("experts")
    n_used = Word("how many a token takes")
    over_all = Word("1: shares are a softmax over all experts; 0: over those that a token takes")
    scores = Part(Rows, "the router's results, n float32 for each token")
    choices = Part(Rows, "n_used Choices for each token, the highest score first")


class Choice(Record):
    """An expert that a token takes."""

    expert = Word("its number")
    share = Word("a float32, in the first four bytes: the weight of its result in the sum")


class Norm(Record):
    """out = scale * norm(source), or out += that, for every row of a step."""

    source = Part(Rows, "the rows to be normed, which may be `out` itself")
    out = Part(Rows, "the results' rows")
    weight = Word("address of the RMSNorm weights, float32; 0: no norm")
    width = Word("numbers of a row, padded to 32")
    numbers = Word("address of two float32: 1 / width, eps")
    scale = Word("address of a float32; 0: none")
    adds = Word("1: out += (the residual stream)")


class Angles(Record):
    """Rotary angles: rows of Rope.half float32, one per position."""

    cos = Word("address")
    sin = Word("address")


class Rope(Record):
    """How positions turn heads."""

    half = Word("half the rotated dimensions of a head")
    angles = Part(Angles, "those of most models, and of caches that LongRoPE's short factors suffice for")
    long_angles = Part(Angles, "LongRoPE's, for tokens with Token.is_long")


class Temperature(Record):
    """What queries are multiplied by, position by position."""

    factors = Word("address of a float32 per position")


class Attention(Record):
    """The attention of one layer."""

    layer = Word("its number among layers with attention, which says where its keys and values are")
    window = Word("positions that a token sees, its own included; huge where attention is full")
    rope = Word("address of its Rope; 0: heads are not rotated")
    query_scale = Word("address of the float32 that queries are multiplied by")
    temperature = Word("address of a Temperature; 0: none")
    softcap = Word("address of a float32 c: scores become c * tanh(score / c); 0: they do not")
    q_norm = Word("address of the weights of the queries' norm, (head_dim,) float32; 0: none")
    k_norm = Word("the same for the keys")
    norms_last = Word("1: these norms follow the rotation")
    sinks = Word("address of a float32 score per query head, with a share and without a value; 0: none")
    gated = Word(
        "1: behind each query head stands its gate, by whose sigmoid the head's output is multiplied"
    )


class Convolution(Record):
    """A convolution over a text's positions, in one layer, each channel with its own filter."""

    source = Part(Rows, "the channels' inputs")
    out = Part(Rows, "the results' rows, which may be `source` itself")
    gates = Word(
        "bytes from one of the two gates of a channel to the next, and from that to its input; 0: none"
    )
    channels = Word("channels, a multiple of 16")
    taps = Word("positions that a filter sees")
    filters = Word("address of `taps` rows of a float32 per channel, the earliest position first")
    bias = Word("address of a float32 per channel; 0: none")
    state = Word("bytes from the beginning of a text's state to this layer's last `taps` - 1 inputs")


class Memory(Record):
    """The memory of one layer, a matrix for each head (drawn in `kernels/recurrent.py`). Of the places within
    a row, each is that of the first head, in bytes."""

    rows = Part(Rows, "what a token brings")
    out = Part(Rows, "the results' rows")
    is_delta = Word("1: the delta rule, and head h takes key h % n_groups; 0: Mamba-2's, and keys go by runs")
    n_heads = Word("heads of the memory")
    n_groups = Word("keys, and queries")
    head_dim = Word("numbers that a head is written and reads, a multiple of 16")
    state_dim = Word("numbers of a key, a multiple of 16")
    query = Word("place of the queries")
    key = Word("of the keys")
    value = Word("of what is written")
    gate = Word("of the gates of what is read")
    step = Word("of a number per head that says how much the memory fades")
    strength = Word("delta: of one that says how much is written")
    step_bias = Word("address of a float32 per head, added to `step`")
    decay = Word("address of a float32 per head, at most 0")
    query_scale = Word("delta: address of the float32 that queries are multiplied by")
    weight = Word(
        "address of float32: delta: head_dim, the norm's; Mamba-2: one per head, of what is written"
    )
    numbers = Word("delta: address of two float32: 1 / head_dim, eps of the norm of a head")
    state = Word("bytes from the beginning of a text's state to this layer's memory")


class Operation(Record):
    """What a layer consists of, for a thread that takes tokens through it by itself."""

    kind = Word("PRODUCT, APPEND, ...")
    operand = Word("address of its Product, Attention, Norm, Experts, Convolution or Memory")


class Phase(Record):
    """Something that all threads do together, item by item, before they go on to the next."""

    kind = Word("how it is shared out: PREPARE, MULTIPLY, ...")
    operand = Word("address of its Product, Attention, ...; RUN_TOKENS: of the first Operation")
    n_operations = Word("RUN_TOKENS: how many follow each other")
    finishes = Word("1: of a wide step's last operations: tokens before Step.unfinished are left")
    least = Word("items that a thread takes at least, in a step of one token")
    fetches = Word(
        "address of the Product whose weights a step of one token asks for while it waits; 0: none"
    )


class Model(Record):
    """What is fixed when a model is loaded. hd: head_dim."""

    n_kv_heads = Word("key-value heads")
    group = Word("query heads per key-value head")
    head_dim = Word("numbers of a head")
    head_numbers = Word("address of two float32: 1 / hd, eps of the norms of queries and keys")
    kv_kind = Word("how the cache keeps its numbers: KvKind.code")
    kv_block_bytes = Word("bytes of the keys (or values) of one block of one head")
    qkv = Part(Rows, "queries (and their gates), keys, values of all heads, side by side")
    attended = Part(Rows, "the heads' outputs, in large steps")
    activations = Word("address of packed activations that threads share")
    largest_tile = Word("rows that a kernel takes together at most, a power of two")
    partials = Word("address of attention's results in a small step: by key-value head, block and row")
    folded = Word("address of a word per key-value head: how many of its blocks the first results stand for")


class Step(Record):
    """What changes from step to step."""

    first_number = Word("number of the first phase, counted through all steps ever run")
    phases = Word("address of the first Phase")
    n_phases = Word("how many follow each other")
    n_tokens = Word("tokens")
    is_small = Word("1: few tokens of one sequence, for which every thread prepares its input itself")
    in_turn = Word("1: tiles that take the same panels share out what they ask for")
    prefetch_bytes = Word("how far ahead a tile that has its panels to itself asks for weights")
    tokens = Word("address of a Token for each")
    tiles = Word("address of a Tile for each token")
    n_logits = Word("rows of logits")
    logit_rows = Word("address of a word per row of logits: the token it belongs to")
    logit_tiles = Word("address of a Tile for each row of logits")
    spans = Word("address of the Spans of a large step")
    n_spans = Word("how many")
    runs = Word("address of the Runs of a step of many tokens")
    n_runs = Word("how many; 0 in other steps")
    unfinished = Word(
        "tokens, from the first on, that the last operations leave: nobody asks for their logits"
    )


class Plan(Record):
    """What every thread is told, by its address."""

    model = Part(Model, "the model")
    step = Part(Step, "the step")
    n_threads = Word("threads, the caller's included")
    shared = Word("address of Shared")
    workers = Word("address of thread 0's Worker")
    worker_stride = Word("bytes from one thread's Worker to the next")
    give_way = Word("address of the C function `int f(void *)` that gives the core away")
    sleep = Word("of the one that waits for a wake-up, with the thread's word of sleep_arguments")
    wake = Word("of the one that wakes it")
    sleep_arguments = Word("address of a word per thread")
    clock = Word("of `timespec_get`, which is asked whenever a phase opens; 0: it is not")
    stamps = Word("address of two words per phase and for the end: seconds, nanoseconds")


class Worker(Record):
    """A thread's own memory: addresses, and what it knows of the phase it is in."""

    thread = Word("number of the thread")
    row = Word("one row of an input, float32")
    heads = Word("one token's heads, float32")
    head = Word("one head, float32")
    activations = Word("packed activations")
    pairs = Word("gates and ups of some panels, or an expert's results, float32")
    queries = Word("interleaved query rows")
    scores = Word("scores of one block of positions")
    limits = Word("int32 per query row: attention sees positions of a block before this one")
    lows = Word("int32 per query row: and from this one on")
    results = Word("attention's results of one block, a row each")
    totals = Word("merged results, a row each")
    inputs = Word("sixteen channels' inputs of a convolution, a line each")
    factors = Word("four float32 for each token: a memory's factors")
    visits = Word("a Visit for each token and expert that it takes, those of an expert together")
    ends = Word("a word per expert: the number behind its last visit")
    visit_tiles = Word("a Tile for each visit")
    is_grouped = Word("1: visits are those of this phase's tokens")
    is_prepared = Word("1: the rows of this phase's product are packed in `activations`")
    gathered = Word("key-value head whose queries are gathered in `queries`; -1: none")
    foldable = Word("item of ATTEND_BLOCKS whose result may be merged into its head's first; -1: none")


class Token(Record):
    """A token of the step."""

    position = Word("its position in its sequence")
    keys = Word("address of its cache's keys")
    values = Word("address of its cache's values")
    head_bytes = Word("bytes of the keys (or values) of one head in one layer")
    is_long = Word("1: its cache has room for more than LongRoPE's short factors reach")
    state = Word("address of its text's state before the step")
    next_state = Word("address of the one behind it, which the step writes")
    left = Word("tokens of its text in this step, from it on")


class Tile(Record):
    """The tile of packed activations in which a row lies."""

    first = Word("the tile's first row")
    size = Word("its rows")


class Visit(Record):
    """A token at one of the experts that it takes."""

    token = Word("its number in the step")
    share = Word("address of the float32 that the expert's result is multiplied by")


class Span(Record):
    """Tokens of one sequence that attention takes together."""

    first = Word("the first token")
    n_tokens = Word("tokens")


class Run(Record):
    """Tokens that one thread takes through many operations by itself."""

    first = Word("the first token")
    n_tokens = Word("tokens")
    first_span = Word("the first of its spans")
    n_spans = Word("spans")


product_at, norm_at, attention_at = Pointer(Product), Pointer(Norm), Pointer(Attention)
convolution_at, memory_at = Pointer(Convolution), Pointer(Memory)
experts_at, choice_at, visit_at = Pointer(Experts), Pointer(Choice), Pointer(Visit)
rope_at, temperature_at = Pointer(Rope), Pointer(Temperature)
phase_at, operation_at, worker_at = Pointer(Phase), Pointer(Operation), Pointer(Worker)
token_at, tile_at, span_at, run_at = Pointer(Token), Pointer(Tile), Pointer(Span), Pointer(Run)
panel_at = Pointer(Panel)
PHASE_BYTES, OPERATION_BYTES, TOKEN_BYTES = Phase.nbytes, Operation.nbytes, Token.nbytes
PANEL_BYTES, CHOICE_BYTES, VISIT_BYTES = Panel.nbytes, Choice.nbytes, Visit.nbytes
CHOICE_SHARE = Choice.share.offset
STAMP_BYTES = 16
TILE_BYTES, SPAN_BYTES, RUN_BYTES = Tile.nbytes, Span.nbytes, Run.nbytes
