# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors of float32 lanes inside numba functions: one voxel of L neighbouring slices.

A lanes array is a one-dimensional array whose elements are records of L float32 (`lanes_dtype`), so
that L is part of its type and LLVM splits `<L x float>` into the vector registers that the machine
has.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

ALIGNMENT = 64  # bytes: one AVX-512 register, one cache line

# numba names compiled functions by the number that a record type has in the process. Kernels for 32
# and for 64 lanes that two processes compiled may then have one name in the cache on the disk, and
# a third process that loads both runs one of them on the lanes of the other. The record's own name
# tells them apart.
types.Record.mangling_args = property(  # type: ignore[method-assign, assignment]
    lambda record: (type(record).__name__, (record.name,))
)


class Lanes(types.Type):
    """Numba type of a vector of `count` float32."""

    def __init__(self, count: int):
        self.count = count
        super().__init__(name=f"Lanes({count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(ir.FloatType(), fe_type.count))


def lanes_dtype(count: int) -> np.dtype:
    """Return the record type of `count` float32 that marks an array as a lanes array."""
    return np.dtype([("lanes", np.float32, (count,))])


def _lanes_of(array) -> Lanes | None:
    if isinstance(array, types.Array) and array.ndim == 1 and isinstance(array.dtype, types.Record):
        return Lanes(array.dtype.size // 4)
    return None


def _pointer(context, builder, array_type, array, index):
    struct = context.make_array(array_type)(context, builder, array)
    vector = ir.VectorType(ir.FloatType(), array_type.dtype.size // 4)
    return builder.gep(builder.bitcast(struct.data, vector.as_pointer()), [index])


@intrinsic
def load(typingctx, array, index):
    """Return the lanes of element `index`."""
    lanes = _lanes_of(array)
    if lanes is None or not isinstance(index, types.Integer):
        return None

    def codegen(context, builder, signature, args):
        index = context.cast(builder, args[1], signature.args[1], types.intp)
        value = builder.load(_pointer(context, builder, signature.args[0], args[0], index))
        value.align = min(ALIGNMENT, 4 * lanes.count)
        return value

    return lanes(array, index), codegen


@intrinsic
def store(typingctx, array, index, value):
    """Write `value` into the lanes of element `index`."""
    lanes = _lanes_of(array)
    if lanes is None or not isinstance(index, types.Integer) or value != lanes:
        return None

    def codegen(context, builder, signature, args):
        index = context.cast(builder, args[1], signature.args[1], types.intp)
        pointer = _pointer(context, builder, signature.args[0], args[0], index)
        builder.store(args[2], pointer, align=min(ALIGNMENT, 4 * lanes.count))
        return context.get_dummy_value()

    return types.void(array, index, value), codegen


def factor_at(factors, channel, z, x, index):
    """Return factors[channel, z, x], or element `index` where `factors` are a lanes array."""


@overload(factor_at)
def _factor_at(factors, channel, z, x, index):
    if _lanes_of(factors) is not None:
        return lambda factors, channel, z, x, index: load(factors, index)
    return lambda factors, channel, z, x, index: factors[channel, z, x]


@intrinsic
def zero(typingctx, array):
    """Return lanes of zeros, as many as an element of `array` has."""
    lanes = _lanes_of(array)
    if lanes is None:
        return None

    def codegen(context, builder, signature, args):
        return ir.Constant(ir.VectorType(ir.FloatType(), signature.return_type.count), None)

    return lanes(array), codegen


def _splat(builder, scalar, count):
    vector = ir.VectorType(ir.FloatType(), count)
    first = builder.insert_element(
        ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
    )
    mask = ir.Constant(ir.VectorType(ir.IntType(32), count), None)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)


def _scalar_or_lanes(context, builder, value_type, value, count):
    if isinstance(value_type, Lanes):
        return value
    return _splat(builder, context.cast(builder, value, value_type, types.float32), count)


@intrinsic
def splat(typingctx, number, array):
    """Return lanes that all hold `number`, as many as an element of `array` has."""
    lanes = _lanes_of(array)
    if lanes is None or not isinstance(number, types.Float):
        return None

    def codegen(context, builder, signature, args):
        number = context.cast(builder, args[0], signature.args[0], types.float32)
        return _splat(builder, number, signature.return_type.count)

    return lanes(number, array), codegen


@intrinsic
def fma(typingctx, factor, lanes, addend):
    """Return factor * lanes + addend, in one rounding where the machine has it.

    `factor` is a number or lanes.
    """
    if (
        not isinstance(lanes, Lanes)
        or addend != lanes
        or not (factor == lanes or isinstance(factor, types.Float))
    ):
        return None

    def codegen(context, builder, signature, args):
        count = signature.return_type.count
        factor = _scalar_or_lanes(context, builder, signature.args[0], args[0], count)
        vector = ir.VectorType(ir.FloatType(), count)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{count}f32"
        )
        return builder.call(function, [factor, args[1], args[2]])

    return lanes(factor, lanes, addend), codegen


def _of_two(instruction, **how):
    """Return the intrinsic of an LLVM instruction on lanes and lanes, or lanes and a number."""

    @intrinsic
    def operation(typingctx, a, b):
        lanes = a if isinstance(a, Lanes) else b
        if not isinstance(lanes, Lanes) or not all(
            v == lanes or isinstance(v, types.Float) for v in (a, b)
        ):
            return None

        def codegen(context, builder, signature, args):
            values = zip(signature.args, args, strict=True)
            values = [
                _scalar_or_lanes(context, builder, kind, value, signature.return_type.count)
                for kind, value in values
            ]
            return instruction(builder, *values, **how)

        return lanes(a, b), codegen

    return operation


def _define(symbol, instruction):
    operation = _of_two(
        instruction, flags=("contract",)
    )  # a product and a sum may become one fused instruction

    @overload(symbol)
    def choose(a, b):
        if isinstance(a, Lanes) or isinstance(b, Lanes):
            return lambda a, b: operation(a, b)
        return None


_define(operator.add, ir.IRBuilder.fadd)
_define(operator.sub, ir.IRBuilder.fsub)
_define(operator.mul, ir.IRBuilder.fmul)
_define(operator.truediv, ir.IRBuilder.fdiv)

# The larger of two, lanes by lanes; one of them may be a number.
larger = _of_two(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


def _of_one(name, operands=1):
    """Return the intrinsic of an LLVM function of `operands` lanes."""

    def build(lanes, values):
        if not all(isinstance(value, Lanes) and value == lanes for value in values):
            return None

        def codegen(context, builder, signature, args):
            count = signature.return_type.count
            vector = ir.VectorType(ir.FloatType(), count)
            function = ir.FunctionType(vector, [vector] * operands)
            return builder.call(
                cgutils.get_or_insert_function(
                    builder.module, function, f"llvm.{name}.v{count}f32"
                ),
                args,
            )

        return lanes(*values), codegen

    if operands == 1:
        return intrinsic(lambda typingctx, lanes: build(lanes, (lanes,)))
    return intrinsic(lambda typingctx, lanes, other: build(lanes, (lanes, other)))


root = _of_one("sqrt")  # of numbers from 0
magnitude = _of_one("fabs")
with_sign = _of_one("copysign", 2)  # the magnitude of the first, the sign of the second


def _neighbours(shift):
    """Return the intrinsic that reads lanes `shift`, `shift` + 1, .. of two elements end to end.

    A negative shift counts from the end.
    """

    @intrinsic
    def operation(typingctx, first, second):
        if not isinstance(first, Lanes) or second != first:
            return None

        def codegen(context, builder, signature, args):
            count = signature.return_type.count
            lanes = [shift % count + k for k in range(count)]
            return builder.shuffle_vector(
                *args, ir.Constant(ir.VectorType(ir.IntType(32), count), lanes)
            )

        return first(first, second), codegen

    return operation


# Every lane's neighbour in y: `following(here, after)` holds slices y + 1,
# `preceding(before, here)` slices y - 1, where `after` and `before` are the same voxel of the lanes
# that come next and came last.
following = _neighbours(1)
preceding = _neighbours(-1)


@intrinsic
def any_above(typingctx, lanes, number):
    """Return whether any lane is above `number`."""
    if not isinstance(lanes, Lanes) or not isinstance(number, types.Float):
        return None

    def codegen(context, builder, signature, args):
        count = signature.args[0].count
        number = _scalar_or_lanes(context, builder, signature.args[1], args[1], count)
        above = builder.bitcast(builder.fcmp_ordered(">", args[0], number), ir.IntType(count))
        return builder.icmp_unsigned("!=", above, ir.Constant(ir.IntType(count), 0))

    return types.boolean(lanes, number), codegen


@intrinsic
def positive(typingctx, lanes):
    """Return the larger of every lane and 0."""
    if not isinstance(lanes, Lanes):
        return None

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(ir.FloatType(), signature.return_type.count)
        nought = ir.Constant(vector, None)
        return builder.select(builder.fcmp_ordered(">", args[0], nought), args[0], nought)

    return lanes(lanes), codegen


@intrinsic
def lane_sum(typingctx, lanes):
    """Return the sum of the lanes, in double precision."""
    if not isinstance(lanes, Lanes):
        return None

    def codegen(context, builder, signature, args):
        count = signature.args[0].count
        vector = ir.VectorType(ir.DoubleType(), count)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.DoubleType(), [ir.DoubleType(), vector]),
            f"llvm.vector.reduce.fadd.v{count}f64",
        )
        return builder.call(
            function, [ir.Constant(ir.DoubleType(), 0.0), builder.fpext(args[0], vector)]
        )

    return types.float64(lanes), codegen


@intrinsic
def quotient(typingctx, numerator, denominator, least):
    """Return numerator / max(denominator, least), lanes by lanes; `least` is a number."""
    if (
        not isinstance(numerator, Lanes)
        or denominator != numerator
        or not isinstance(least, types.Float)
    ):
        return None

    def codegen(context, builder, signature, args):
        floor = _splat(
            builder,
            context.cast(builder, args[2], signature.args[2], types.float32),
            signature.return_type.count,
        )
        larger = builder.select(builder.fcmp_ordered(">", args[1], floor), args[1], floor)
        return builder.fdiv(args[0], larger)

    return numerator(numerator, denominator, least), codegen


@intrinsic
def logarithm(typingctx, lanes):
    """Return the natural logarithm of every lane to 2e-7, for normal numbers above 0.

    It is a finite number for 0.
    """
    if not isinstance(lanes, Lanes):
        return None

    def codegen(context, builder, signature, args):
        count = signature.return_type.count
        floats, whole = ir.VectorType(ir.FloatType(), count), ir.VectorType(ir.IntType(32), count)

        def number(value):
            return ir.Constant(floats, [value] * count)

        def bits(value):
            return ir.Constant(whole, [value] * count)

        # v = m 2^e with sqrt(1/2) <= m < sqrt(2), which 0x3f3504f3 begins; log m = 2 artanh s, s =
        # (m - 1)/(m + 1), |s| < 0.172.
        raw = builder.bitcast(args[0], whole)
        exponent = builder.ashr(builder.sub(raw, bits(0x3F3504F3)), bits(23))
        m = builder.bitcast(builder.sub(raw, builder.shl(exponent, bits(23))), floats)
        s = builder.fdiv(builder.fsub(m, number(1.0)), builder.fadd(m, number(1.0)))
        square = builder.fmul(s, s)
        series = number(2 / 9)
        for power in (7, 5, 3, 1):
            series = builder.fadd(builder.fmul(series, square), number(2 / power))
        return builder.fadd(
            builder.fmul(s, series),
            builder.fmul(builder.sitofp(exponent, floats), number(0.6931471805599453)),
        )

    return lanes(lanes), codegen
