"""Float32 building blocks that LLVM vectorises inside numba loops.

`exp32(x)`, `exp2_32(x)` and `decay64(x)` are for x <= 0 only, which is all that a decay needs. They
round to about one unit in float32's last place, return exactly 1 at 0 and exactly 0 where the
result would be a denormal float32. Calls to the C library inside a loop would keep LLVM from using
vector registers. They are inlined by LLVM, not by numba, so that a caller's licence to reassociate
does not reach their rounding step.

Method: write x = (k + f) ln 2 with k the nearest integer, |f| <= 1/2; evaluate 2^f by a minimax
polynomial; put k into the exponent bits (Cody and Waite, Software Manual for the Elementary
Functions, 1980, chapter 6).
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# What LLVM may do with a loop's arithmetic: add in another order, without which sums do not
# vectorise, fuse a product with a sum, and ignore the sign of zero. NaN and infinity keep their
# meaning.
FAST_MATH = {"reassoc", "contract", "nsz"}

_LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts; the first has few bits, so k * _LN2_HIGH is exact for |k| <= 127.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440054690583e-4)
# Adding 1.5 * 2^23 rounds a small float to the nearest integer and leaves it in the low bits.
_ROUND = np.float32(12582912.0)
# Below these arguments the result would be denormal.
EXP_FLOOR = np.float32(-87.33654)
_EXP2_FLOOR = np.float32(-126.0)
_ZERO = np.float32(0.0)
ONE = np.float32(1.0)
# Minimax polynomials in relative error: (e^r - 1 - r) / r^2 for |r| <= ln(2)/2 (error 3.1e-9)
# and (2^f - 1) / f for |f| <= 1/2 (error 2.0e-9).
_E2 = np.float32(0.4999999403953552)
_E3 = np.float32(0.1666652113199234)
_E4 = np.float32(0.04166838899254799)
_E5 = np.float32(0.00836870726197958)
_E6 = np.float32(0.001381458598189056)
_P1 = np.float32(0.6931471824645996)
_P2 = np.float32(0.24022647738456726)
_P3 = np.float32(0.055503323674201965)
_P4 = np.float32(0.009618437848985195)
_P5 = np.float32(0.001339887036010623)
_P6 = np.float32(0.00015353334310930222)


@intrinsic
def _power_of_two(typingctx: Any, rounded: Any) -> Any:
    """2^k from the float32 `_ROUND + k`, or from lanes of it, by moving k into the exponent."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        is_vector = isinstance(kind, ir.VectorType)
        whole = ir.VectorType(ir.IntType(32), kind.count) if is_vector else ir.IntType(32)

        def constant(value: int) -> Any:
            return ir.Constant(whole, [value] * kind.count if is_vector else value)

        bits = builder.shl(builder.bitcast(args[0], whole), constant(23))
        return builder.bitcast(builder.add(bits, constant(0x3F800000)), kind)

    return rounded(rounded), codegen


@intrinsic
def float_from_bits(typingctx: Any, bits: Any) -> Any:
    """The float32 with these 32 bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@njit(forceinline=True, fastmath={"contract"})
def exp_parts(x: Any) -> Any:
    """e^r - 1 and 2^k, with x = r + k ln 2 and |r| <= ln(2)/2, of a float32 or of lanes."""
    rounded = x * _LOG2_E + _ROUND
    k = rounded + -_ROUND
    r = (x + k * -_LN2_HIGH) + k * -_LN2_LOW
    poly = _E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))
    return r + r * r * poly, _power_of_two(rounded)


@njit(forceinline=True, fastmath={"contract"})
def exp32(x: Any) -> Any:
    """exp(x) for a float32 x <= 0; zero below -87.3."""
    grown, power = exp_parts(x)
    return (ONE + grown) * power if x > EXP_FLOOR else _ZERO


@njit(forceinline=True, fastmath={"contract"})
def decay64(x: Any) -> Any:
    """exp(x) as a float64 for a float32 x <= 0, from float32 arithmetic; zero below -87.3.

    Good to about 1e-7 of exp(x), and near one to about 1e-7 of 1 - exp(x), which float32 could not
    hold: a product of many decays then is as good as the sum of their exponents.
    """
    grown, power = exp_parts(x)
    # With k = 0 the power of two is one, and nothing is rounded here.
    return (1.0 + np.float64(grown)) * np.float64(power) if x > EXP_FLOOR else 0.0


@njit(forceinline=True, fastmath={"contract"})
def exp2_32(x: Any) -> Any:
    """2**x for a float32 x <= 0; zero below -126. Fewer operations than `exp32`."""
    rounded = x + _ROUND
    f = x - (rounded - _ROUND)
    poly = _P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * (_P5 + f * _P6))))
    value = (ONE + f * poly) * _power_of_two(rounded)
    return value if x > _EXP2_FLOOR else _ZERO
