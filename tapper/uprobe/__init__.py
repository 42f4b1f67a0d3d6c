"""The plaintext of TLS that applications do themselves, by BPF programs at the functions of their TLS libraries.

The tapper is complete without this package; only `tapper tap --tls` and `tapper discover --tls` need it. Plaintext
takes these steps:

    function of a library -> BPF program (programs) -> ring of the pod (ring) -> TCP segment (segments) -> stream

`capture` holds it all together: it finds the processes of the captured pods (`readable`), looks for the functions in
their files (elf, golang), and attaches the programs there (probes). Beneath are an assembler (asm), the system calls
(bpf), the kernel's type information (btf), and a test of all that on a process of our own (selftest).
"""
