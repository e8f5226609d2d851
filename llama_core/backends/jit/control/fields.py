"""The records the compiled step reads: int64 words, each with a name for its index.

Addresses and strides are in bytes; other words count numbers, panels, blocks or tokens as they say.
"""

from __future__ import annotations

from llama_core.choices import MAX_THREADS

# What threads agree by. Each word has a cache line of its own, so that they do not slow each other down.
CURRENT = 0  # the phase that is open
DONE = 64  # items of it that are finished
END = 128  # the phase after the step's last
ALONE = 192  # 1: helpers keep out (see `schedule.wait`)
STOP = 256  # 1: helpers return
SLEEPING = 320  # word per helper, a line apart: 1 while it sleeps
CURSORS = SLEEPING + 64 * MAX_THREADS  # word per thread, a line apart: phase << 24 | next item of its share
SHARED_BYTES = CURSORS + 64 * MAX_THREADS

# The model, fixed when it is loaded.
(
    THREADS,
    LAYERS,  # address of the first layer record
    HEAD,  # address of the output matrix's record
    FINAL_NORM,
    DIM,  # padded to 32 numbers, like every width below
    HIDDEN,
    Q_DIM,
    N_KV_HEADS,
    GROUP,  # query heads per key-value head
    HEAD_DIM,
    HALF,  # half the rotated dimensions of a head
    KV_KIND,  # how the cache keeps its numbers: KvKind.code
    KV_BLOCK_BYTES,  # keys (or values) of 64 positions of one head
    WINDOW,  # positions a token sees, its own included; huge where attention is full
    DIM_NUMBERS,  # address of 1 / dim, eps, and from where on a number stands apart, three float32
    HEAD_NUMBERS,  # the same for one head, without the third
    Q_NUMBERS,  # the same for the width of all heads
    HIDDEN_NUMBERS,  # and for hidden_dim
    QUERY_SCALE,  # address of 1 / sqrt(head_dim), float32
    COS,  # rows of HALF numbers, one per position
    SIN,
    YIELD,  # address of the C function `int f(void *)` that gives the core away
    SLEEP,  # of the one that waits for a wake-up, with its word of SLEEP_ARGUMENTS
    WAKE,
    SHARED,
    # buffers; rows of consecutive tokens are a stride apart
    X,  # the residual stream
    X_STRIDE,
    QKV,
    QKV_STRIDE,
    ATTENDED,  # the heads' outputs
    ATTENDED_STRIDE,
    GATED,  # silu(gate) * up
    GATED_STRIDE,
    ACTIVATIONS,  # packed activations of a large step
    PARTIALS,  # attention results of a small step: per key-value head, block and row
    FOLDED,  # address of a word per key-value head: how many of its blocks the first results stand for
    LOGITS,
    LOGITS_STRIDE,
    SCRATCH,  # private memory of thread 0; the others' follow
    SCRATCH_STRIDE,
    # offsets into a thread's scratch
    ROW_AT,
    HEADS_AT,
    HEAD_AT,
    OWN_ACTIVATIONS_AT,
    PAIR_AT,
    QUERIES_AT,
    SCORES_AT,
    LIMITS_AT,
    LOWS_AT,
    RESULTS_AT,
    TOTALS_AT,
    # The step.
    FIRST_PHASE,
    FIRST_LAYER,
    LAST_LAYER,
    N,  # tokens
    LOOK_AHEAD,  # how many bytes ahead weights are asked for
    SMALL,  # 1: few tokens of one sequence (see `step.py`)
    TILE_OF,  # per token two words: first token and size of its tile
    N_LOGITS,
    LOGIT_ROWS,  # per row of logits: the token it belongs to
    LOGIT_TILE_OF,
    TOKENS,  # per token four words: its position; its cache's keys, values, and bytes of either per head
    SPANS,  # attention's work in a large step: per span two words, first token and number of tokens
    N_SPANS,
    RUNS,  # in a step of many tokens: per run its first token, tokens, first span, spans (`step_wide.py`)
    N_RUNS,  # 0 in other steps
    UNFINISHED,  # there: so many tokens, from the first on, the last planned layer leaves (`step_wide.py`)
    FIRST_BLOCK,  # attention's work in a small step: blocks FIRST_BLOCK .. FIRST_BLOCK + N_BLOCKS
    N_BLOCKS,
    SLEEP_ARGUMENTS,  # address of a word per thread
    PLAN_WORDS,
) = range(71)

# One layer: addresses, 0 where the model has no such thing.
(
    ATTENTION_NORM,
    QKV_MATRIX,
    QKV_BIAS,
    Q_NORM,
    K_NORM,
    O_MATRIX,
    O_BIAS,
    FFN_NORM,
    GATE_UP_MATRIX,
    GATE_UP_BIAS,
    DOWN_MATRIX,
    DOWN_BIAS,
    LAYER_WORDS,
) = range(13)

# One packed matrix: how many panels, blocks of 32 columns, address of the first panel's record.
(PANELS, BLOCKS, PANEL_RECORDS, MATRIX_WORDS) = range(4)
# One panel: its kind's code, the address of its weights, and how many panels from it on are of this kind
# and follow each other in memory.
(KIND, WEIGHTS, ALIKE, PANEL_WORDS) = range(4)
