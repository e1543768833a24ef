"""How work is cut, which decides what memory it needs: those who cut and those who tell agree."""

from collections.abc import Iterator

# Tokens of all texts of a batch that pass through a model at once without a graph: measured, more
# are not faster. At least `SHORTEST` of each text.
PASS = 1024
SHORTEST = 64
# The graph of one piece may take about this many bytes, at `GRAPH_FLOATS` numbers of four bytes a
# token, hidden unit and block.
GRAPH_BYTES = 2 << 30
GRAPH_FLOATS = 24
# Tokens of a layer's trace that are recomputed at once: enough that the projections run at full
# speed, and the ten (piece, d_inner) tensors of a sweep stay below a hundred megabytes at 1,536.
READ = 1024
# The same of an SSD layer: its moments are read by blocks inside a piece and, at a far higher cost,
# by a state between pieces.
READ_SSD = 4096
# Tokens of a chunk of an SSD's scan, which is computed as attention; and of all texts, at least a
# chunk of each, that a backward pass runs again at once.
CHUNK_SSD = 64
PASS_SSD = 1024
# Tokens of an SSD's smallest blocks, whose decays are computed one by one.
LEAF_SSD = 32
# Attention probabilities that are held at once, of all heads.
ATTENTION = 1 << 22
# All threads' partial sums of matrices may take this together; where they would not, fewer compute.
PARTIAL_BYTES = 1 << 29
# Logits over the vocabulary that are held at once, of all tokens whose next one is judged.
LOGITS = 1 << 22
# Elements of a temporary tensor of plain torch, where no compiled kernel reads.
TEMPORARY = 1 << 24


def pass_tokens(hidden: int, blocks: int, texts: int) -> int:
    """Tokens of each text in one piece of a pass; `blocks` are those whose graph is kept, or 0."""
    together = GRAPH_BYTES // (4 * GRAPH_FLOATS * hidden * blocks) if blocks else PASS
    return max(together // texts, SHORTEST)


def borders(length: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the pieces of a text, in order."""
    for start in range(0, length, size):
        yield start, min(start + size, length)
