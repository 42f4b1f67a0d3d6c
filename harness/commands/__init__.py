"""The subcommands of `tapper-harness`, a module each: `add` describes it, `run` does it.

What a command needs is imported when it runs: `--help` and usage errors shall not wait for it.
"""
