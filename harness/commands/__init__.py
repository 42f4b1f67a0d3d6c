"""The subcommands of `tapper-harness`, one module each: `add` describes it to argparse, `run` carries it out.

Packages that a command needs are imported when it runs, so that `--help` and usage errors are quick.
"""
