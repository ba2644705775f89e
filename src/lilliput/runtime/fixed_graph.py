"""An ONNX graph of integers only, built node by node.

An activation is an unsigned byte: ``value = (byte - zero) * 2**-exponent``, zero being 0 where
nothing is negative and 128 elsewhere. Products and sums are int32. To come back to bytes they are
rounded to nearest, halves up: one addition and one division of a number that is not negative by a
power of two, which is a shift to the right.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lilliput.errors import InputError

MOST_SHIFT = 30  # octaves of an int32 that a shift and the codes it leaves may take together
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Target:
    """What integers shall stand for a value.

    Attributes:
        exponent: Code = value * 2**exponent.
        low: Smallest code.
        high: Largest code.
        zero: What is added to a code to store it without sign.
    """

    exponent: int
    low: int
    high: int
    zero: int

    @property
    def wide(self) -> bool:
        """Whether codes take two bytes."""
        return self.high + self.zero > 255

    @property
    def most_shift(self) -> int:
        """The largest shift that does not overflow int32."""
        return MOST_SHIFT - int(self.high + self.zero).bit_length()


@dataclass(frozen=True)
class Codes:
    """An activation in the graph: ``value = (stored - zero) * 2**-exponent``.

    It is a uint8, or, where it is an output that nothing reads, an int16 with zero 0.
    """

    name: str
    exponent: int
    zero: int
    wide: bool = False


@dataclass(frozen=True)
class Sums:
    """A sum in the graph: ``value = sum * 2**-exponent``, int32.

    Attributes:
        name: Its name.
        exponent: Integers that broadcast over it, one per channel or one.
        bound: The largest it can be, likewise.
    """

    name: str
    exponent: np.ndarray
    bound: np.ndarray


class FixedGraph:
    """Nodes and constants, none of them of floating point; `taken` are names that others have."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._taken = set(taken)

    def constant(self, array: np.ndarray, stem: str) -> str:
        """The name of a constant; equal ones are held once.

        Args:
            array: Integers.
            stem: What its name starts with.
        """
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = name = self.fresh(stem)
            held = np.ascontiguousarray(array).reshape(array.shape)  # it makes (1,) of ()
            self.initializers[name] = numpy_helper.from_array(held, name)
        return self._known[key]

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet."""
        name, count = stem, 1
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name

    def node(self, operator: str, inputs: list[str], *, stem: str, **attributes: Any) -> str:
        """A new node; returns the name of its output."""
        output = self.fresh(stem)
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def cast(self, name: str, kind: int, *, stem: str) -> str:
        """Another type of integer."""
        return self.node("Cast", [name], stem=stem, to=kind)

    def sums(self, codes: Codes, *, stem: str) -> Sums:
        """Bytes as signed sums."""
        name = self.cast(codes.name, TensorProto.INT32, stem=f"{stem}.sums")
        if codes.zero:
            zero = self.constant(np.array(codes.zero, np.int32), "zero")
            name = self.node("Sub", [name, zero], stem=f"{stem}.signed")
        return Sums(name, np.array(codes.exponent), np.array(max(codes.zero, 255 - codes.zero)))

    def scaled(self, sums: Sums, factor: np.ndarray, *, octaves: int, stem: str) -> Sums:
        """Sums times ``factor * 2**-octaves``, exactly."""
        if octaves == 0 and np.all(factor == 1):
            return sums
        held = self.constant(np.asarray(factor, np.int32), f"{stem}.factor")
        name = self.node("Mul", [sums.name, held], stem=f"{stem}.scaled")
        return Sums(name, sums.exponent + octaves, sums.bound * np.abs(factor))

    def rounded(
        self, sums: Sums, target: Target, *, stem: str, offset: np.ndarray | None = None
    ) -> Codes:
        """Sums as bytes: shifted to the right and rounded to nearest, halves up, then clipped.

        Args:
            sums: What is rounded.
            target: The codes it becomes.
            stem: What new names start with.
            offset: Integers that are added to the sums first, at their exponent; a bias.

        Raises:
            InputError: int32 could overflow.
        """
        name = self._nonnegative(sums, target, offset, stem)
        right = np.maximum(sums.exponent - target.exponent, 0)
        if right.any():
            divisor = self.constant((1 << right).astype(np.int32), f"{stem}.divisor")
            name = self.node("Div", [name, divisor], stem=f"{stem}.shifted")
        if target.low + target.zero > 0:
            least = self.constant(np.array(target.low + target.zero, np.int32), "least")
            name = self.node("Max", [name, least], stem=f"{stem}.raised")
        most = self.constant(np.array(target.high + target.zero, np.int32), "most")
        name = self.node("Min", [name, most], stem=f"{stem}.clipped")
        if not target.wide:
            stored = self.cast(name, TensorProto.UINT8, stem=stem)
            return Codes(stored, target.exponent, target.zero)
        zero = self.constant(np.array(target.zero, np.int32), "zero")
        name = self.node("Sub", [name, zero], stem=f"{stem}.signed")
        stored = self.cast(name, TensorProto.INT16, stem=stem)
        return Codes(stored, target.exponent, 0, wide=True)

    def _nonnegative(self, sums: Sums, target: Target, offset: np.ndarray | None, stem: str) -> str:
        """Sums plus offset, plus what makes codes unsigned and rounds; never below zero."""
        shift = sums.exponent - target.exponent
        left, right = np.maximum(-shift, 0), np.maximum(shift, 0)
        sums = self.scaled(sums, 1 << left, octaves=0, stem=stem)
        added = (np.int64(target.zero) << right) + ((np.int64(1) << right) >> 1)
        if offset is not None:
            added = added + (offset.astype(np.int64) << left)
        if np.any(sums.bound.astype(object) + np.abs(added) > _LARGEST):
            raise InputError(
                f"{stem}: a sum does not fit 32 bits",
                "its values span too many powers of two for fixed point",
            )
        name = sums.name
        if added.any():
            held = self.constant(added.astype(np.int32), f"{stem}.offset")
            name = self.node("Add", [name, held], stem=f"{stem}.offset_sums")
        nothing = self.constant(np.array(0, np.int32), "nothing")
        return self.node("Max", [name, nothing], stem=f"{stem}.positive")
