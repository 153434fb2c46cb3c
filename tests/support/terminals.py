"""Standard output and error of a chosen encoding, for tests of the command line."""

from __future__ import annotations

import io
import sys

from stepsize.cli import main
from stepsize.demo import Settings


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


def shorten_the_demo(monkeypatch):
    """Three rates, two epochs and no pictures; what the demo shows and draws, its own tests ask."""

    def savefig(figure, file, **_):
        if hasattr(file, "write"):
            file.write("<svg />")

    monkeypatch.setattr(Settings, "quick", lambda: Settings(epochs=2, seeds=1, rates=3))
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)
