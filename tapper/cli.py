"""The commands `tapper tap` and `tapper discover`. Modules that few runs need are imported by the functions that need
them: many tests start a tapper, and its start is a part of their time."""

from __future__ import annotations

import argparse
import functools
import gc
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tapper import __version__, options
from tapper.discovery.procfs import Procfs
from tapper.errors import MissingPackageError, TapperError, UsageError, explain, without_text
from tapper.output.console import Console
from tapper.output.escape import wants_colour
from tapper.output.format import Format
from tapper.output.records import Snapshot
from tapper.output.sink import Closed, open_output
from tapper.output.text import Text
from tapper.run.parts import Parts, chosen
from tapper.run.plaintext import OpenPlaintext
from tapper.run.tap import LiveTap, Options
from tapper.run.writer import RecordWriter
from tapper.runtime import standard_streams
from tapper.targets.feed import FileFeed, TargetFeed

if TYPE_CHECKING:
    from tapper.output.listening import Listening
    from tapper.run.snapshot_requests import SnapshotRequests

_INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it."""
_PCAPNG_WARNING = "-o pcapng writes packets as they were captured: nothing in them is redacted"
_NO_REDACT_WARNING = (
    "--no-redact: credentials, cookies and tokens come out with their values: let only people read the output who may "
    "use them"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0, or that of the TapperError whose sentence went to standard error."""
    standard_streams.prepare()
    console = Console(sys.stderr)
    try:
        return _run(argv, console)
    finally:
        console.finish()
        _flush(console)


def _run(argv: Sequence[str] | None, console: Console) -> int:
    arguments: argparse.Namespace | None = None
    try:
        arguments = options.parse(argv)
        parts = chosen()
        form = _format(arguments, parts)
        if arguments.command == "tap":
            _tap(arguments, form, console, parts)
        else:
            _discover(arguments, form, console)
    except TapperError as error:
        console.warn(str(error))
        return error.exit_code
    except Closed:
        standard_streams.drop(sys.stdout)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        if arguments is None or getattr(arguments, "no_redact", False):
            raise  # Python shows the error and its text
        for line in without_text(error):
            console.warn(line)
        return TapperError.exit_code
    return 0


def _flush(console: Console) -> None:
    """Write the buffers of standard output, which may hold the help, and of standard error. Python itself would do so
    at exit, and answer a failure with a traceback or with exit code 120."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            console.warn(f"cannot write the output: {explain(error)}")
        standard_streams.drop(sys.stdout)
    try:
        sys.stderr.flush()
    except OSError:
        standard_streams.drop(sys.stderr)


def _tap(arguments: argparse.Namespace, form: Format, console: Console, parts: Parts) -> None:
    # 1. What the options ask for.
    targets = frozenset(arguments.targets)
    shape = options.shape(arguments)
    feeds: list[TargetFeed] = []
    if arguments.targets_file is not None:
        feeds.append(FileFeed(arguments.targets_file, console.warn))
    pods = options.kubernetes_feed(arguments, os.environ, console.warn)
    if pods is not None:
        feeds.append(pods)
    recorder = None
    if arguments.output == "pcapng":
        from tapper.output.pcapng import Recorder  # noqa: PLC0415

        recorder = Recorder(f"tapper {__version__}")
        console.warn(_PCAPNG_WARNING)
    elif shape.redaction is None:
        console.warn(_NO_REDACT_WARNING)

    # 2. What exists by now stays to the end: without a look at it the garbage collector takes a third less time.
    gc.freeze()
    # A connection and its halves refer to each other, so the collector frees them: 5,000 objects are few connections.
    gc.set_threshold(5_000, 10, 10)

    # 3. A file is read to its end; otherwise the tapper captures until a signal comes.
    writer = functools.partial(
        RecordWriter,
        form=form,
        console=console,
        shape=shape,
        recorder=recorder,
        body_limit=arguments.body_limit,
        parts=parts,
    )
    if arguments.read is not None:
        from tapper.run.replay import Replay, open_capture  # noqa: PLC0415

        with open_capture(arguments.read, arguments.write) as stream, open_output(arguments.write) as output:
            Replay(targets, writer(output)).run(stream, arguments.read)
        return
    # Each source takes three descriptors. Shells set a low limit for the sake of programs that use select(2).
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    settings = Options(
        targets,
        arguments.istio,
        arguments.procfs,
        arguments.interface,
        verify=arguments.verify,
        finders=options.finders(arguments),
        ring_memory=arguments.ring_memory,
        feeds=tuple(feeds),
        plaintext=_plaintext() if arguments.tls else None,
        ready_fd=arguments.ready_fd,
    )
    console.do_not_wait()
    with _metrics(arguments.metrics) as requests, open_output(arguments.write) as output:
        LiveTap(settings, writer(output), console, requests, parts.blocks).run()


def _plaintext() -> OpenPlaintext:
    """What --tls captures by. Raises UsageError where this tapper has no such part."""
    if find_spec("tapper.uprobe") is None:
        raise UsageError(
            "this tapper was installed without the package tapper.uprobe, which --tls needs: leave --tls out"
        )
    from tapper.uprobe.capture import open_capture  # noqa: PLC0415

    return open_capture


@contextmanager
def _metrics(listening: Listening | None) -> Iterator[SnapshotRequests[Snapshot] | None]:
    """Serve metrics meanwhile, where that is asked for. The loop answers the requests for counts that this yields."""
    if listening is None:
        yield None
        return
    from tapper.run.snapshot_requests import SnapshotRequests  # noqa: PLC0415

    try:
        from tapper.output.metrics import serving  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        raise MissingPackageError(
            "--metrics needs the Python package prometheus_client, which is not installed: "
            "pip install 'tapper-harness[metrics]'"
        ) from None
    requests: SnapshotRequests[Snapshot] = SnapshotRequests()
    with serving(listening, requests.ask), closing(requests):
        yield requests


def _discover(arguments: argparse.Namespace, form: Format, console: Console) -> None:
    from tapper.follow.discover import listing  # noqa: PLC0415

    targets = frozenset(arguments.targets) or None
    if arguments.tls:
        _plaintext()
        from tapper.uprobe.listing import listing as tls_listing  # noqa: PLC0415

        found = tls_listing(Procfs(arguments.procfs), targets, console.warn)
        with open_output(arguments.write) as output:
            output.write(form.tls_processes(found))
        return
    finders = options.finders(arguments)
    shown, owned = listing(Procfs(arguments.procfs), targets, finders, console.warn, everything=arguments.all)
    with open_output(arguments.write) as output:
        output.write(form.processes(shown, owned))


def _format(arguments: argparse.Namespace, parts: Parts) -> Format:
    if arguments.output == "har":
        from tapper.output.har import Har  # noqa: PLC0415

        return Har()
    if arguments.output == "ndjson":
        return parts.ndjson()
    if arguments.output == "pcapng":
        return Format()
    # Columns are for terminals. Pipes, files and terminals without cursor movement get plain lines.
    colour, verbose = arguments.colour, arguments.verbose
    able = options.to_terminal(arguments) and os.environ.get("TERM", "dumb") != "dumb"
    if arguments.command == "discover" or not (able or colour == "always"):
        return Text(verbose=verbose)
    from tapper.output.terminal import Terminal, window_width  # noqa: PLC0415 - rich takes time to import

    coloured = colour == "always" or (colour == "auto" and wants_colour(os.environ, terminal=able))
    return Terminal(functools.partial(window_width, sys.stdout.fileno()), colour=coloured, verbose=verbose)
