"""Words at the width of the terminal: of results, and at the end of a command's help."""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import textwrap

__all__ = ["Help", "prose"]


def prose(words: object, indent: int = 0) -> str:
    """Lines for a person, broken between words; in a pipe or a file as they are."""
    if not sys.stdout.isatty():
        return str(words)
    width = shutil.get_terminal_size().columns
    return "\n".join(_filled(line, width, " " * indent) for line in str(words).splitlines())


def _filled(line: str, width: int, indent: str = "") -> str:
    if len(line) <= width or width <= len(indent) + 8:
        return line
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


class Help(argparse.RawDescriptionHelpFormatter):
    """Help whose last words are set anew; lines that are indented, as examples are, stay."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = itertools.groupby(text.splitlines(), lambda line: line[:1].strip() != "")
        return "\n".join(
            _filled(" ".join(lines), width) if paragraph else "\n".join(lines)
            for paragraph, lines in parts
        )
