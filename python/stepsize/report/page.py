"""A web page in one file: no script, no font, no picture from anywhere else."""

from __future__ import annotations

import html
import io
import keyword
import token
import tokenize
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from stepsize import plots

__all__ = ["Page", "Tone", "highlight"]

Tone = Literal["good", "fair", "bad"]


class Page:
    """Collects parts in order and writes them as one HTML file, light and dark.

    Text is escaped; `code` in backquotes becomes code. Pictures take their colours from the page.

    >>> page = Page("A title", "What it is about.")
    >>> page.text("Two < three, says `a < b`.")
    >>> "Two &lt; three, says <code>a &lt; b</code>." in page.html()
    True
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._parts: list[str] = [f"<h1>{inline(title)}</h1>"]
        if lead:
            self._parts.append(f'<p class="lead">{inline(lead)}</p>')

    def raw(self, markup: str) -> None:
        """Add markup as it is."""
        self._parts.append(markup)

    def heading(self, text: str, anchor: str = "") -> None:
        """Start a section."""
        name = f' id="{html.escape(anchor)}"' if anchor else ""
        self._parts.append(f"<h2{name}>{inline(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{inline(text)}</p>")

    def note(self, text: str) -> None:
        """Add a paragraph of small print."""
        self._parts.append(f'<p class="note">{inline(text)}</p>')

    def cards(self, cards: Iterable[tuple[str, str]]) -> None:
        """Add a row of large values, each with what it says."""
        boxes = [
            f'<div class="card"><strong>{inline(value)}</strong><span>{inline(words)}</span></div>'
            for value, words in cards
        ]
        self._parts.append(f'<div class="cards">{"".join(boxes)}</div>')

    def figures(self, figures: Iterable[tuple[Any, str]]) -> None:
        """Add pictures side by side where there is room: axes (or an SVG) and a caption each."""
        boxes = []
        for picture, caption in figures:
            drawing = picture if isinstance(picture, str) else plots.svg(picture, caption)
            boxes.append(f"<figure>{drawing}<figcaption>{inline(caption)}</figcaption></figure>")
        self._parts.append(f'<div class="figures">{"".join(boxes)}</div>')

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], best: int | None = None
    ) -> None:
        """Add a table; row number `best` stands out. Long cells are set as text, to the left."""
        body = [list(map(str, row)) for row in rows]
        wide = [any(len(row[i]) > 28 for row in body) and i > 0 for i in range(len(header))]
        head = "".join(_cell("th", name, w) for name, w in zip(header, wide, strict=True))
        lines = []
        for index, row in enumerate(body):
            cells = "".join(_cell("td", value, w) for value, w in zip(row, wide, strict=True))
            lines.append(f"<tr{' class=best' if index == best else ''}>{cells}</tr>")
        self._parts.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>"
        )

    def verdict(self, word: str, text: str, tone: Tone) -> None:
        """Add a judgement that stands out."""
        self._parts.append(f'<p class="verdict {tone}"><b>{inline(word)}</b> {inline(text)}</p>')

    def code(self, source: str) -> None:
        """Add Python code."""
        self._parts.append(f"<pre><code>{highlight(source.strip())}</code></pre>")

    def html(self) -> str:
        """The whole page."""
        style = resources.files("stepsize.report").joinpath("style.css").read_text("utf-8")
        body = "\n".join(self._parts)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(self.title)}</title>\n<style>\n{style}</style>\n</head>\n"
            f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: str | Path) -> Path:
        """Write the page to `path`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.html(), "utf-8")
        return path


def inline(text: str) -> str:
    """Escape text; what stands in backquotes becomes code."""
    parts = html.escape(text, quote=False).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))


def _cell(tag: str, text: str, wide: bool) -> str:
    return f"<{tag}{' class=words' if wide else ''}>{inline(text)}</{tag}>"


def highlight(source: str) -> str:
    """Python source as HTML with keywords, strings, numbers and comments marked.

    >>> highlight("x = 1  # one")
    'x = <span class="n">1</span>  <span class="c"># one</span>'
    """
    lines = source.splitlines(keepends=True)
    result, row, column = [], 1, 0
    for part in tokenize.generate_tokens(io.StringIO(source).readline):
        (start_row, start), (end_row, end) = part.start, part.end
        if not part.string.strip():
            continue
        result.append(html.escape(_between(lines, row, column, start_row, start), quote=False))
        text = html.escape(part.string, quote=False)
        kind = _kind(part)
        result.append(f'<span class="{kind}">{text}</span>' if kind else text)
        row, column = end_row, end
    return "".join(result)


def _between(lines: list[str], row: int, column: int, end_row: int, end: int) -> str:
    if row == end_row:
        return lines[row - 1][column:end]
    middle = lines[row : end_row - 1]
    return "".join([lines[row - 1][column:], *middle, lines[end_row - 1][:end]])


def _kind(part: tokenize.TokenInfo) -> str:
    if part.type == token.NAME and keyword.iskeyword(part.string):
        return "k"
    return {token.STRING: "s", token.NUMBER: "n", tokenize.COMMENT: "c"}.get(part.type, "")
