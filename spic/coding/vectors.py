"""Numbers of several images side by side as one vector of LLVM, for what numba would compile number by number, because it
cannot know that its arrays do not overlap. LLVM makes of it what the processor has; a single lane becomes plain numbers.

All take `lanes`, a literal, and entries [at, at + lanes) of their arrays. Nothing is checked: places must lie inside.
"""

from __future__ import annotations

import sys

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

BIT, BYTE, INT, LONG = (ir.IntType(bits) for bits in (1, 8, 32, 64))


class Code:
    """What the functions below are written in: the builder's operations on vectors.

    values: the arguments but `lanes`, as numbers of 64 bits and pointers to the entries of arrays."""

    def __init__(self, context, builder: ir.IRBuilder, signature, values):
        self.context, self.builder, self.lanes = context, builder, signature.args[-1].literal_value
        self.values = [self._value(kind, value) for kind, value in zip(signature.args[:-1], values)]
        self.zero = ir.Constant(LONG, 0)

    def _value(self, kind, value):
        if isinstance(kind, types.Array):
            return self.context.make_array(kind)(self.context, self.builder, value).data
        return self.context.cast(self.builder, value, kind, types.int64)

    def kind(self, element: ir.Type) -> ir.VectorType:
        return ir.VectorType(element, self.lanes)

    def constant(self, number: int, element: ir.Type = INT) -> ir.Constant:
        return ir.Constant(self.kind(element), [number] * self.lanes)

    def everywhere(self, number: ir.Value) -> ir.Value:
        """One number in all lanes."""
        empty = ir.Constant(self.kind(number.type), ir.Undefined)
        first = self.builder.insert_element(empty, number, ir.Constant(INT, 0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(self.kind(INT), [0] * self.lanes))

    def short(self, number: ir.Value) -> ir.Value:
        """A 64-bit number as one of 32 bits, in all lanes."""
        return self.everywhere(self.builder.trunc(number, INT))

    def call(self, name: str, *arguments: ir.Value) -> ir.Value:
        """An intrinsic of LLVM, such as ``smin``, of its first argument's type."""
        return self._call(f"{name}.v{self.lanes}i{arguments[0].type.element.width}", arguments[0].type, *arguments)

    def _call(self, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        module = self.builder.module
        known = module.globals.get(f"llvm.{name}")
        function = known or ir.Function(module, ir.FunctionType(result, [argument.type for argument in arguments]), f"llvm.{name}")
        return self.builder.call(function, arguments)

    def load(self, array: ir.Value, at: ir.Value) -> ir.Value:
        place = self._place(array, at)
        return self.builder.load(place, align=array.type.pointee.width // 8)

    def store(self, numbers: ir.Value, array: ir.Value, at: ir.Value) -> None:
        self.builder.store(numbers, self._place(array, at), align=numbers.type.element.width // 8)

    def _place(self, array: ir.Value, at: ir.Value) -> ir.Value:
        """Where the vector at an entry of an array lies."""
        return self.builder.bitcast(self.builder.gep(array, [at]), self.kind(array.type.pointee).as_pointer())

    def gather(self, array: ir.Value, index: ir.Value, element: ir.Type | None = None) -> ir.Value:
        """The entries at an index of each lane; with another type, the number that begins there, aligned or not."""
        read, size = element or array.type.pointee, array.type.pointee.width // 8
        wide = self.builder.zext(index, self.kind(LONG)) if index.type.element != LONG else index
        offsets = self.builder.mul(wide, self.constant(size, LONG))
        places = self.builder.add(self.everywhere(self.builder.ptrtoint(array, LONG)), offsets)
        pointers = self.builder.inttoptr(places, self.kind(ir.PointerType()))
        return self._call(f"masked.gather.v{self.lanes}i{read.width}.v{self.lanes}p0", self.kind(read), pointers,
                          ir.Constant(INT, size), self.constant(1, BIT), ir.Constant(self.kind(read), ir.Undefined))


def big_endian(code: Code, words: ir.Value) -> ir.Value:
    """Numbers read from bytes, with the first byte as the highest."""
    return words if sys.byteorder == "big" else code.call("bswap", words)


def on_lanes(arguments: tuple, write) -> tuple | None:
    """What an intrinsic gives to numba: its types, and code without a result by ``write(code, *values)``; None where `lanes`,
    the last argument, is no literal."""
    if not isinstance(arguments[-1], types.IntegerLiteral):
        return None

    def generate(context, builder, signature, values):
        code = Code(context, builder, signature, values)
        write(code, *code.values)
        return context.get_dummy_value()

    return types.none(*arguments), generate


@intrinsic(prefer_literal=True)
def add_scaled(_, sums, at, sizes, source, weight, lanes):
    """sums (int32) += weight × sizes (uint8) from `source` on; -2**15 <= weight < 2**15."""

    def write(code, sums, at, sizes, source, weight):
        b = code.builder
        scale = code.everywhere(b.sext(b.trunc(weight, ir.IntType(16)), INT))  # known to be short, it is multiplied faster
        scaled = b.mul(b.zext(code.load(sizes, source), code.kind(INT)), scale)
        code.store(b.add(code.load(sums, at), scaled), sums, at)

    return on_lanes((sums, at, sizes, source, weight, lanes), write)


@intrinsic(prefer_literal=True)
def choose(_, sums, at, row, classes, reach, choices, contexts, lanes):
    """contexts (int32, from 0 on) = the distributions of sums: choices (int32) from `row` on, at their classes (int32) of sums
    from 0 to `reach`."""

    def write(code, sums, at, row, classes, reach, choices, contexts):
        clipped = code.call("smin", code.call("smax", code.load(sums, at), code.constant(0)), code.short(reach))
        place = code.builder.add(code.gather(classes, clipped), code.short(row))
        code.store(code.gather(choices, place), contexts, code.zero)

    return on_lanes((sums, at, row, classes, reach, choices, contexts, lanes), write)


@intrinsic(prefer_literal=True)
def measure(_, symbols, signed, cap, sizes, at, lanes):
    """sizes (uint8) = `activity` of symbols (int32, from 0 on), up to `cap`."""

    def write(code, symbols, signed, cap, sizes, at):
        b, sign = code.builder, code.short(signed)
        activity = b.ashr(b.add(code.load(symbols, code.zero), sign), sign)
        code.store(b.trunc(code.call("smin", activity, code.short(cap)), code.kind(BYTE)), sizes, at)

    return on_lanes((symbols, signed, cap, sizes, at, lanes), write)
