"""Equations as MathML, which browsers set by themselves: no script, no font, no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

# What the converter does not know, in words that it does.
SPELLINGS = {r"\Big": "", r"\dots": r"\ldots", r"\textstyle": ""}


def convert(node: nodes.Element, block: bool) -> str:
    text = " ".join(node.astext().split())
    for ours, theirs in SPELLINGS.items():
        text = text.replace(ours, theirs)
    text = re.sub(r"frac(\d)(\d)", r"frac{\1}{\2}", text)
    return tex2mathml(text, as_block=block)


def inline(writer: Any, node: nodes.Element) -> None:
    writer.body.append(convert(node, block=False))
    raise nodes.SkipNode


def display(writer: Any, node: nodes.Element) -> None:
    writer.body.append(f'<div class="math">{convert(node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
