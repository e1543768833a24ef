"""Eight float32 as one value inside numba kernels: what a vector register holds.

LLVM vectorises plain loops only where it can show that no array written overlaps one read, and
keeps no more than one loop's sums in registers. Kernels that must not depend on that are written in
lanes. `a + b` and `a * b` work lane by lane, a float32 beside lanes stands for all of them, and
a product that is added becomes one fused instruction. Arrays are C-contiguous and indexed as if
they were flat; nothing is checked.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, overload, register_model

from workers.kernels._simd import EXP_FLOOR, ONE, exp_parts

LANES = 8

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(_FLOAT, LANES)
FUSE = ("contract",)


class _Lanes(types.Type):  # type: ignore[misc]
    """The numba type of eight float32."""

    def __init__(self) -> None:
        super().__init__("Lanes")


_lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Pointer to the lanes of an array of numba type `kind` from flat `index` on."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index], inbounds=True), VECTOR.as_pointer())


def everywhere(builder: Any, value: Any) -> Any:
    """LLVM's instructions for one value in every lane."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, _mask(*[0] * LANES))


def _mask(*lanes: int) -> Any:
    return ir.Constant(ir.VectorType(_INT, len(lanes)), list(lanes))


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """The eight values of `array` from flat `index` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *args), align=4)

    return _lanes(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, values: Any) -> Any:
    """Write eight values to `array` from flat `index` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, index, values = args
        builder.store(values, _address(context, builder, signature.args[0], array, index), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """One float32 in every lane."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return everywhere(builder, args[0])

    return _lanes(types.float32), codegen


@intrinsic
def spread(typingctx: Any, array: Any, index: Any) -> Any:
    """The value of `array` at flat `index` in every lane."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        value = builder.load(builder.gep(data, [args[1]], inbounds=True), align=4)
        return everywhere(builder, value)

    return _lanes(array, types.intp), codegen


@intrinsic
def total(typingctx: Any, values: Any) -> Any:
    """The sum over lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kept = args[0]
        for half in (4, 2, 1):
            high = builder.shuffle_vector(kept, kept, _mask(*range(half, 2 * half)))
            low = builder.shuffle_vector(kept, kept, _mask(*range(half)))
            kept = builder.fadd(low, high)
        return builder.extract_element(kept, ir.Constant(_INT, 0))

    return types.float32(_lanes), codegen


@intrinsic
def _add(typingctx: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args, flags=FUSE)

    return _lanes(_lanes, _lanes), codegen


@intrinsic
def _multiply(typingctx: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(*args, flags=FUSE)

    return _lanes(_lanes, _lanes), codegen


def _lane_by_lane(operation: Any) -> Any:
    """`operation`, with a float32 on either side put into every lane."""

    def typed(a: Any, b: Any) -> Any:
        if isinstance(a, _Lanes) and isinstance(b, _Lanes):
            return lambda a, b: operation(a, b)
        if isinstance(a, _Lanes) and b == types.float32:
            return lambda a, b: operation(a, splat(b))
        if a == types.float32 and isinstance(b, _Lanes):
            return lambda a, b: operation(splat(a), b)
        return None

    return typed


for _operator in (operator.add, operator.iadd):
    overload(_operator, strict=False)(_lane_by_lane(_add))
overload(operator.mul, strict=False)(_lane_by_lane(_multiply))


@intrinsic
def _above(typingctx: Any, x: Any, floor: Any, values: Any) -> Any:
    """`values` where x > floor, else 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        held = builder.fcmp_ordered(">", args[0], args[1])
        return builder.select(held, args[2], ir.Constant(VECTOR, [0.0] * LANES))

    return _lanes(_lanes, _lanes, _lanes), codegen


@njit(forceinline=True)
def exp_lanes(x: Any) -> Any:
    """`_simd.exp32` in every lane."""
    grown, power = exp_parts(x)
    return _above(x, splat(EXP_FLOOR), (ONE + grown) * power)


# Each round interleaves rows so far apart, from the low and from the high parts of both; the last
# exchanges whole halves. Every mask is one instruction on x86.
_LOW, _HIGH = (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)
_ROUNDS = (
    (2, _LOW, _HIGH),
    (1, _LOW, _HIGH),
    (4, (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)),
)


@intrinsic
def transpose(
    typingctx: Any, rows: Any, index: Any, stride: Any, out: Any, place: Any, pitch: Any
) -> Any:
    """Write eight rows of eight, `stride` apart in `rows`, as columns `pitch` apart in `out`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def at(first: int, step: int) -> Any:
            """Row `step` of the array that is argument `first`, whose place and stride follow."""
            array, index, stride = args[first : first + 3]
            place = builder.add(index, builder.mul(stride, ir.Constant(stride.type, step)))
            return _address(context, builder, signature.args[first], array, place)

        held = [builder.load(at(0, row), align=4) for row in range(LANES)]
        for distance, low, high in _ROUNDS:
            mixed = list(held)
            for row in range(LANES):
                if not row & distance:
                    a, b = held[row], held[row + distance]
                    mixed[row] = builder.shuffle_vector(a, b, _mask(*low))
                    mixed[row + distance] = builder.shuffle_vector(a, b, _mask(*high))
            held = mixed
        for row in range(LANES):
            builder.store(held[row], at(3, row), align=4)
        return context.get_dummy_value()

    places = (rows, types.intp, types.intp, out, types.intp, types.intp)
    return types.void(*places), codegen
