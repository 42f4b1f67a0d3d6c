"""The assembler's bytes, and the programs of both machines."""

from __future__ import annotations

import struct

import pytest

from tapper.uprobe.asm import BYTE, DOUBLE, FP, HALF, R0, R1, R2, R6, WORD, Assembler
from tapper.uprobe.layout import ARM64, ENDS, RECORD, X86_64, Maps, RecordKind, Registers, Role
from tapper.uprobe.programs import CallProgram, Function

MAPS = Maps(3, 4, 5, 6, 7, 8, 9, 10)


def program(registers: Registers) -> CallProgram:
    return CallProgram(MAPS, len, registers)  # any offsets will do


@pytest.mark.parametrize(
    ("assembled", "expected"),
    [
        (Assembler().set(R0, -1), "b700 0000 ffff ffff"),
        (Assembler().copy(R6, R1), "bf16 0000 0000 0000"),
        (Assembler().alu("add", R2, -8), "0702 0000 f8ff ffff"),
        (Assembler().alu("and", R1, 1, width=WORD), "5401 0000 0100 0000"),
        (Assembler().alu_register("or", R1, R2), "4f21 0000 0000 0000"),
        (Assembler().load(R1, R6, 112), "7961 7000 0000 0000"),
        (Assembler().load(R1, R6, 6, HALF), "6961 0600 0000 0000"),
        (Assembler().load(R1, R6, 6, BYTE), "7161 0600 0000 0000"),
        (Assembler().store(FP, -8, R0), "7b0a f8ff 0000 0000"),
        (Assembler().store(FP, -8, R0, WORD), "630a f8ff 0000 0000"),
        (Assembler().store_value(FP, -16, 3, DOUBLE), "7a0a f0ff 0300 0000"),
        (Assembler().add_atomically(R0, 8, R1), "db10 0800 0000 0000"),
        (Assembler().map(R1, 7), "1811 0000 0700 0000 0000 0000 0000 0000"),
        (Assembler().call(14).exit(), "8500 0000 0e00 0000 9500 0000 0000 0000"),
        (Assembler().jump_if(R0, "==", 5, "x").jump("x").label("x"), "1500 0100 0500 0000 0500 0000 0000 0000"),
        (Assembler().label("x").jump_if_register(R1, "<", R2, "x"), "ad21 ffff 0000 0000"),
        (Assembler().jump_if(R1, "s<=", 0, "x").label("x"), "d501 0000 0000 0000"),
    ],
)  # fmt: skip
def test_instructions(assembled: Assembler, expected: str) -> None:
    """As RFC 9669 has them."""
    assert assembled.bytes() == bytes.fromhex(expected)


def read_from_context(code: bytes) -> set[int]:
    """The offsets at which a program loads 8 bytes from R6, the context, as long as R6 is that."""
    found: set[int] = set()
    for operation, registers, offset, _ in struct.iter_unpack("<BBhi", code):
        if operation == 0xBF and registers & 15 == R6 and found:
            break  # R6 becomes something else
        if operation == 0x79 and registers >> 4 == R6:
            found.add(offset)
    return found


@pytest.mark.parametrize(
    ("registers", "arguments", "result", "go", "goroutine"),
    [(X86_64, [112, 104, 96, 88], 80, [80, 40], 8), (ARM64, [0, 8, 16, 24], 0, [0, 8], 224)],
)
def test_programs_read_the_registers_of_their_machine(
    registers: Registers, arguments: list[int], result: int, go: list[int], goroutine: int
) -> None:
    """struct pt_regs (arch/x86/include/asm/ptrace.h), struct user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h)."""
    read, by_pointer = Function(RecordKind.READ, 1), Function(RecordKind.READ, 1, by_pointer=True)
    of_go = Function(RecordKind.WRITE, 3, go=True)
    assert read_from_context(program(registers).called(read)) == set(arguments[:2])
    assert read_from_context(program(registers).called(by_pointer)) == {*arguments[:2], arguments[3]}
    assert read_from_context(program(registers).returned(read)) == {result}
    assert read_from_context(program(registers).begins(Role.CLIENT, anew=True)) == {arguments[0]}
    assert read_from_context(program(registers).freed()) == {arguments[0]}
    assert read_from_context(program(registers).called(of_go)) == {*go, goroutine}
    assert read_from_context(program(registers).returned(of_go)) == {go[0], goroutine}
    assert read_from_context(program(registers).go_handshake(Role.SERVER)) == {go[0]}


def test_programs_differ_by_machine_in_nothing_but_registers() -> None:
    function = Function(RecordKind.WRITE, 1, by_pointer=True)
    for assemble in (CallProgram.called, CallProgram.returned):
        one, other = (assemble(program(registers), function) for registers in (X86_64, ARM64))
        assert len(one) == len(other)
        pairs = zip(struct.iter_unpack("<BBhi", one), struct.iter_unpack("<BBhi", other), strict=True)
        differing = [(a, b) for a, b in pairs if a != b]
        assert differing
        assert all(a[0] == b[0] == 0x79 and a[1] == b[1] and a[1] >> 4 == R6 for a, b in differing)


def test_the_head_of_a_record_is_where_the_programs_write_it() -> None:
    values = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, b"a" * 16, b"b" * 16, -14)
    packed = RECORD.struct.pack(*values)
    for name, size, value in (
        ("time", 8, 1),
        ("thread", 8, 2),
        ("ssl", 8, 3),
        ("born", 8, 4),
        ("position", 8, 5),
        ("other", 8, 6),
        ("length", 4, 7),
        ("kind", 1, 8),
        ("library", 1, 9),
        ("error", 8, (1 << 64) - 14),
    ):
        assert int.from_bytes(packed[RECORD[name] :][:size], "little") == value
    ends = packed[RECORD["ends"] :]
    for number, name in enumerate(("port", "peer_port", "family", "role"), 10):
        assert int.from_bytes(ends[ENDS[name] :][:2], "little") == number
    assert ends[ENDS["address"] :][:16] == b"a" * 16
    assert ends[ENDS["peer_address"] :][:16] == b"b" * 16
