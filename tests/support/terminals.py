"""Standard output and error of a chosen encoding, for tests of the command line."""

from __future__ import annotations

import io
import sys

from stepsize.cli import main


def on_a_terminal(monkeypatch, encoding, words):
    """The exit code and what is printed, where the streams have this encoding."""
    streams = []
    for name in ("stdout", "stderr"):
        streams.append(io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        monkeypatch.setattr(sys, name, streams[-1])
    code = main([str(word) for word in words])
    for stream in streams:
        stream.flush()
    return code, *(stream.buffer.getvalue().decode(encoding) for stream in streams)
