"""The help of commands, with its last words at the width of the terminal."""

from __future__ import annotations

import argparse
import itertools

from stepsize.validation import filled

__all__ = ["Help"]


class Help(argparse.RawDescriptionHelpFormatter):
    """Help whose last words are set anew; lines that are indented, as examples are, stay."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = itertools.groupby(text.splitlines(), lambda line: line[:1].strip() != "")
        return "\n".join(
            filled(" ".join(lines), width) if paragraph else "\n".join(lines)
            for paragraph, lines in parts
        )
