"""The product of two panels, sums in registers: where the hidden-attention product spends its time.

A tile is some rows of queries by sixteen keys. Two fused units that take four cycles want at least
eight sums under way; more hide what the caches add, and six rows with their two lanes of keys and
one query fill the sixteen registers of AVX2: a panel is one tile of six rows and two of five. In
AVX-512 sixteen keys are one register of thirty-two, and a panel is one tile. What they are added to
is in no cache by then, so it is fetched while the tile sums from zero. Written as LLVM's
instructions, since numba would want a variable and a line for each sum.
"""

from typing import Any

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from workers.kernels._lanes import FUSE, LANES

PANEL = 16
# Floats of a register, and the rows of the tiles that fill a panel. Compiled for another processor
# than this one, as NUMBA_CPU_NAME may ask, the wider is two of the narrower and still right.
_WIDE = bool(binding.get_host_cpu_features().get("avx512f"))
_WIDTH = PANEL if _WIDE else LANES
_REGISTER = ir.VectorType(ir.FloatType(), _WIDTH)
# Columns between two look-ups of where the rows are: more rows than there are registers for places.
_STEPS = 4


@njit(nogil=True, cache=True)
def multiply_panels(left: Any, right: Any, out: Any, query: int, key: int, columns: int) -> None:
    """Add a panel's queries (tokens, columns) times another's packed keys (columns, tokens)."""
    t, s, pitch = query * PANEL, key * PANEL, out.shape[1]
    keys, place = s * columns, t * pitch + s
    if _WIDE:
        _add_tile(left, t * columns, right, keys, out, place, columns, pitch, 16)
        return
    _add_tile(left, t * columns, right, keys, out, place, columns, pitch, 6)
    _add_tile(left, (t + 6) * columns, right, keys, out, place + 6 * pitch, columns, pitch, 5)
    _add_tile(left, (t + 11) * columns, right, keys, out, place + 11 * pitch, columns, pitch, 5)


@intrinsic(prefer_literal=True)
def _add_tile(
    typingctx: Any,
    left: Any,
    query: Any,
    right: Any,
    key: Any,
    out: Any,
    place: Any,
    columns: Any,
    pitch: Any,
    rows: Any,
) -> Any:
    """Add `rows` (a literal) queries times packed keys to `out`; all are given by flat places."""
    count = rows.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def data(index: int) -> Any:
            return context.make_array(signature.args[index])(context, builder, args[index]).data

        def times(value: Any, factor: int) -> Any:
            return builder.mul(value, ir.Constant(value.type, factor))

        def lanes(array: Any, index: Any) -> Any:
            """Pointers to the registers of the sixteen values from `index` on."""
            starts = (
                builder.add(index, ir.Constant(index.type, lane))
                for lane in range(0, PANEL, _WIDTH)
            )
            first = (builder.gep(array, [at], inbounds=True) for at in starts)
            return [builder.bitcast(at, _REGISTER.as_pointer()) for at in first]

        _, query, _, key, _, place, columns, pitch, _ = args
        queries, keys, sums = data(0), data(2), data(4)
        starts = [builder.add(query, times(columns, row)) for row in range(count)]
        firsts = [builder.add(place, times(pitch, row)) for row in range(count)]
        places = [at for row in firsts for at in lanes(sums, row)]
        each = PANEL // _WIDTH
        for at in places[::each]:
            _prefetch(builder, at)
        nothing = ir.Constant(_REGISTER, [0.0] * _WIDTH)
        tile = [cgutils.alloca_once_value(builder, nothing) for _ in places]
        steps = ir.Constant(columns.type, _STEPS)
        several = builder.udiv(columns, steps)

        def add(index: Any, count: int) -> None:
            """Add the products of `count` columns from `index` on."""
            begin = builder.add(key, times(index, PANEL))
            heads = [builder.gep(queries, [builder.add(s, index)], inbounds=True) for s in starts]
            for step in range(count):
                token = builder.add(begin, ir.Constant(begin.type, step * PANEL))
                r = [builder.load(part, align=4) for part in lanes(keys, token)]
                for row, head in enumerate(heads):
                    at = builder.gep(head, [ir.Constant(begin.type, step)], inbounds=True)
                    q = _everywhere(builder, builder.load(at, align=4))
                    for total, part in zip(tile[each * row : each * row + each], r, strict=True):
                        product = builder.fmul(q, part, flags=FUSE)
                        builder.store(builder.fadd(builder.load(total), product, flags=FUSE), total)

        with cgutils.for_range(builder, several) as loop:
            add(builder.mul(loop.index, steps), _STEPS)
        rest = builder.mul(several, steps), columns, ir.Constant(columns.type, 1)
        with cgutils.for_range_slice(builder, *rest) as (index, _):
            add(index, 1)
        for at, total in zip(places, tile, strict=True):
            before = builder.load(at, align=4)
            builder.store(builder.fadd(before, builder.load(total)), at, align=4)
        return context.get_dummy_value()

    whole = types.intp
    flat = (left, whole, right, whole, out, whole, whole, whole, rows)
    return types.void(*flat), codegen


def _everywhere(builder: Any, value: Any) -> Any:
    """One value in all of a register."""
    undefined, whole = ir.Constant(_REGISTER, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(undefined, value, ir.Constant(whole, 0))
    everywhere = ir.Constant(ir.VectorType(whole, _WIDTH), [0] * _WIDTH)
    return builder.shuffle_vector(first, undefined, everywhere)


def _prefetch(builder: Any, address: Any) -> None:
    """Bring a cache line that will be written into the first-level cache."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    write, keep, data = (ir.Constant(number, value) for value in (1, 3, 1))
    builder.call(fetch, [builder.bitcast(address, byte), write, keep, data])
