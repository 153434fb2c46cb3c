"""The command that serves a page which follows a run."""

from __future__ import annotations

import argparse
import errno
import os
import socket
import sys
from pathlib import Path

from stepsize.cli.errors import CommandError, FileError, RunError

__all__ = ["EPILOG", "SUMMARY", "add_arguments", "watch"]

PORT = 8137
SUMMARY = "Follow a run on a page in the browser."
EPILOG = """\
example:
  stepsize watch run.jsonl

The run logs to the file with callbacks=[ss.JSONLogger("run.jsonl")]; a CSV with a column step,
such as CSVLogger or History.to_csv write, is read too. It need not be there yet. The page is for
this machine alone: nobody else can open it, nothing leaves it. Ctrl-C ends it, not the run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="RUN.jsonl or RUN.csv, a run's log")
    parser.add_argument(
        "--port", type=_port, default=PORT, metavar="N", help=f"0 takes any (default: {PORT})"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where to listen (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="with --host: let other machines read the run; there is no password",
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, got {text!r}")
    return int(text)


def watch(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from stepsize.watching import WatchServer
    from stepsize.watching.server import is_loopback

    notes = _looked_at(args.run)
    try:
        local = is_loopback(args.host)
    except (OSError, UnicodeError):
        raise CommandError(f"--host {args.host} is unknown; leave it out for 127.0.0.1") from None
    if not local and not args.allow_remote:
        raise CommandError(
            f"--host {args.host} would let other machines read the run, without a password; leave "
            "it out, or say --allow-remote too"
        )
    try:
        server = WatchServer(args.run, args.host, args.port)
    except OSError as error:
        kind = RunError if error.errno == errno.EADDRINUSE else CommandError
        raise kind(_refused(error, args)) from None
    with server:
        print(f"{args.run.name} is at {server.url}  (Ctrl-C ends)", flush=True)
        if not args.run.exists():
            print(f"{args.run} is not there yet: the page waits for it", file=sys.stderr)
        for note in notes:
            print(f"{args.run.name}: {note}", file=sys.stderr)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print("stepsize watch: ended; the run was not touched", file=sys.stderr)
    return 0


def _looked_at(path: Path) -> list[str]:
    """What one should know of a file before its page is opened; FileError for what is no log."""
    from stepsize.watching.following import Follower

    if path.exists() and not path.is_file():
        raise FileError(f"{path} is no file; give the log of a run, such as run.jsonl")
    follower = Follower(path)
    try:
        follower.read(seconds=0)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from None
    if follower.foreign:
        raise FileError(f"{path} cannot be followed: {follower.foreign}")
    return follower.notes


def _refused(error: OSError, args: argparse.Namespace) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {args.port} is taken: --port 0 takes any that is free"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {args.port} may not be used: take one above 1023, or --port 0"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"--host {args.host} is no address of this machine; leave it out for 127.0.0.1"
    return f"cannot listen at {args.host}: {os.strerror(error.errno or 0)}"
