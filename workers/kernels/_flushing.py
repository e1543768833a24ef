"""Denormals as zero for the length of a compiled kernel, in whichever thread runs it.

`denormals` sets the mode for a worker's threads for good; a kernel sets it for itself, so that its
results do not depend on who calls it.
"""

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_ON_X86 = platform.machine().lower() in {"x86_64", "amd64"}
# MXCSR bits: flush results that are denormal, treat denormal inputs as zero.
_FLUSH_TO_ZERO = 0x8040


@intrinsic
def _exchange_mode(typingctx: Any, mode: Any) -> Any:
    """Set the thread's MXCSR register to `mode` (negative: or in the flush bits); return the old.

    Elsewhere than on x86, where denormals are not slow, it does nothing.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        if not _ON_X86:
            return ir.Constant(i32, 0)
        i8_pointer = ir.IntType(8).as_pointer()
        access = ir.FunctionType(ir.VoidType(), [i8_pointer])
        store = builder.module.declare_intrinsic("llvm.x86.sse.stmxcsr", fnty=access)
        load = builder.module.declare_intrinsic("llvm.x86.sse.ldmxcsr", fnty=access)
        slot = builder.alloca(i32)
        address = builder.bitcast(slot, i8_pointer)
        builder.call(store, [address])
        old = builder.load(slot)
        flushing = builder.or_(old, ir.Constant(i32, _FLUSH_TO_ZERO))
        keep = builder.icmp_signed("<", args[0], ir.Constant(i32, 0))
        builder.store(builder.select(keep, flushing, args[0]), slot)
        builder.call(load, [address])
        return old

    return types.int32(types.int32), codegen


@njit
def begin_flushing() -> Any:
    """Treat denormals as zero in this thread from here on; returns what `end_flushing` needs."""
    return _exchange_mode(np.int32(-1))


@njit
def end_flushing(mode: Any) -> None:
    """Undo `begin_flushing`."""
    _exchange_mode(mode)
