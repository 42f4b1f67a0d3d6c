"""An assembler of BPF instructions (RFC 9669): what a compiler would give, without one.

An instruction has 8 bytes: opcode, destination and source register, a signed 16-bit offset, a signed 32-bit immediate.
The bytes are in little-endian order: the tapper's programs run on x86-64 and arm64.
"""

from __future__ import annotations

import struct
from typing import Final, Self, TypeAlias

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = range(11)
"""R0: result. R1 to R5: arguments, which a call destroys. R6 to R9: kept by a call. FP: the end of the stack."""

BYTE, HALF, WORD, DOUBLE = 0x10, 0x08, 0x00, 0x18
"""Sizes of a load or store: 1, 2, 4 and 8 bytes."""

_Offset: TypeAlias = int | str
"""An offset in bytes, or the label that a jump leads to."""

_LD_IMM64: Final = 0x18
_LDX_MEM, _ST_MEM, _STX_MEM, _STX_ATOMIC = 0x61, 0x62, 0x63, 0xC3
_JMP, _JMP_REG, _CALL, _EXIT = 0x05, 0x0D, 0x85, 0x95
_ALU64, _ALU32, _FROM_REGISTER = 0x07, 0x04, 0x08
_MAP_FD, _MAP_VALUE = 1, 2  # BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
_OPERATIONS: Final = {
    "add": 0x00,
    "sub": 0x10,
    "or": 0x40,
    "and": 0x50,
    "lsh": 0x60,
    "rsh": 0x70,
    "mov": 0xB0,
    "arsh": 0xC0,
}
_CONDITIONS: Final = {"==": 0x10, ">": 0x20, ">=": 0x30, "&": 0x40, "!=": 0x50, "<": 0xA0, "<=": 0xB0, "s<=": 0xD0}
_INSTRUCTION: Final = struct.Struct("<BBhi")


class Assembler:
    """Instructions in the order of the calls. Every method but `bytes` returns the assembler itself."""

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, int, _Offset, int]] = []
        self._labels: dict[str, int] = {}
        self._names = 0

    def new_label(self) -> str:
        """A name that no other label has. `label` places it."""
        self._names += 1
        return f"label {self._names}"

    def label(self, name: str) -> Self:
        """The next instruction is where jumps to this label lead."""
        assert name not in self._labels, f"the label {name!r} is placed twice"
        self._labels[name] = len(self._instructions)
        return self

    # Arithmetic: destination = destination OPERATION value.

    def set(self, destination: int, value: int) -> Self:
        """destination = a signed 32-bit value, extended to 64 bits."""
        return self.alu("mov", destination, value)

    def copy(self, destination: int, source: int) -> Self:
        return self.alu_register("mov", destination, source)

    def alu(self, operation: str, destination: int, value: int, *, width: int = DOUBLE) -> Self:
        """With the width WORD, the upper half of the result is 0."""
        code = (_ALU64 if width == DOUBLE else _ALU32) | _OPERATIONS[operation]
        return self._add(code, destination, 0, 0, value)

    def alu_register(self, operation: str, destination: int, source: int) -> Self:
        return self._add(_ALU64 | _FROM_REGISTER | _OPERATIONS[operation], destination, source)

    # Memory.

    def load(self, destination: int, address: int, offset: int, size: int = DOUBLE) -> Self:
        """destination = what is `offset` bytes after the address in a register."""
        return self._add(_LDX_MEM | size, destination, address, offset)

    def store(self, address: int, offset: int, source: int, size: int = DOUBLE) -> Self:
        return self._add(_STX_MEM | size, address, source, offset)

    def store_value(self, address: int, offset: int, value: int, size: int = DOUBLE) -> Self:
        return self._add(_ST_MEM | size, address, 0, offset, value)

    def add_atomically(self, address: int, offset: int, source: int) -> Self:
        """Add a register to 8 bytes in memory."""
        return self._add(_STX_ATOMIC | DOUBLE, address, source, offset)

    def map(self, destination: int, descriptor: int) -> Self:
        """destination = the map with this descriptor."""
        return self._add(_LD_IMM64, destination, _MAP_FD, 0, descriptor)._add(0, 0, 0)

    # Control.

    def jump(self, label: str) -> Self:
        return self._add(_JMP, 0, 0, label)

    def jump_if(self, register: int, condition: str, value: int, label: str) -> Self:
        """Comparisons are unsigned but for those that begin with s. `&`: a bit of the value is set."""
        return self._add(_JMP | _CONDITIONS[condition], register, 0, label, value)

    def jump_if_register(self, register: int, condition: str, other: int, label: str) -> Self:
        return self._add(_JMP_REG | _CONDITIONS[condition], register, other, label)

    def call(self, helper: int) -> Self:
        """Call a function of the kernel (bpf-helpers(7)) by its number in linux/bpf.h."""
        return self._add(_CALL, 0, 0, 0, helper)

    def exit(self) -> Self:
        return self._add(_EXIT)

    def bytes(self) -> bytes:
        """The program. Every label must be placed."""
        assembled = bytearray()
        for index, (code, destination, source, offset, value) in enumerate(self._instructions):
            distance = self._labels[offset] - index - 1 if isinstance(offset, str) else offset
            assembled += _INSTRUCTION.pack(code, destination | source << 4, distance, value)
        return bytes(assembled)

    def _add(self, code: int, destination: int = 0, source: int = 0, offset: _Offset = 0, value: int = 0) -> Self:
        self._instructions.append((code, destination, source, offset, value))
        return self
