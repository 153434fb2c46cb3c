"""The one look of results in notebooks: a card of words, a table and a picture, light and dark.

A card stands on a page that is not ours, so it brings its style, takes text colours and background
from the theme of the notebook where that tells them, and has a background of its own where it does
not. Everything in it that could be the user's is escaped and cut to a length; where matplotlib is
missing, or a picture fails, the words and the table stand alone.
"""

from __future__ import annotations

import base64
import contextlib
import html
import itertools
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Literal

from stepsize import plots
from stepsize.plots.style import COLOURS, GRID, INK, MUTED, offscreen

__all__ = ["Card", "Tone", "cut", "picture"]

Tone = Literal["good", "fair", "bad", ""]

ROWS = 20  # of a table
CELL = 80  # signs of a cell
LONG = 24  # signs of a cell from which on its column may be broken into lines
WORDS = 1_200  # signs of a paragraph
LARGEST_SVG = 200_000  # signs; a picture with more is sent as pixels
DPI = 110  # of those pixels

LIGHT = (
    "--ss-paper:#fff;--ss-text:#1f2328;--ss-soft:#59616b;--ss-line:#d9dde2;--ss-good:#00734f;"
    "--ss-fair:#8a6000;--ss-bad:#ab4b00;--ink:#1f2328;--muted:#646c76;--grid:#e3e6e9;"
    "--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;--c4:#e69f00;--c5:#56b4e9;"
    "--t0:#005f94;--t1:#ab4b00;--t2:#00734f;--t3:#99487a;--t4:#8a6000;--t5:#21759f"
)
DARK = (
    "--ss-paper:#14171b;--ss-text:#e7eaee;--ss-soft:#a2abb6;--ss-line:#333a43;--ss-good:#45cfa3;"
    "--ss-fair:#f0bb4d;--ss-bad:#f59a5c;--ink:#e7eaee;--muted:#a2abb6;--grid:#333a43;"
    "--c0:#58a9e6;--c1:#f0803c;--c2:#2fc198;--c3:#e09ac3;--c4:#f0b02e;--c5:#9ad6f7;"
    "--t0:#79bdf2;--t1:#f59a5c;--t2:#45cfa3;--t3:#e9afd0;--t4:#f0bb4d;--t5:#a9dcf8"
)
# How JupyterLab, VS Code, Colab and Sphinx's themes tell which of the two they show, whatever the
# system prefers.
IS_LIGHT = '[data-jp-theme-light="true"],.vscode-light,html[theme="light"],[data-theme="light"]'
IS_DARK = '[data-jp-theme-light="false"],.vscode-dark,html[theme="dark"],[data-theme="dark"]'
STYLE = (
    f".ss-card{{{LIGHT}}}@media(prefers-color-scheme:dark){{.ss-card{{{DARK}}}}}"
    f":is({IS_LIGHT}) .ss-card{{{LIGHT}}}:is({IS_DARK}) .ss-card{{{DARK}}}"
    """
.ss-card{--paper:var(--jp-layout-color0,var(--vscode-editor-background,var(--ss-paper)));
background:var(--paper);
color:var(--jp-content-font-color1,var(--vscode-editor-foreground,var(--ss-text)));
border:1px solid var(--ss-line);border-radius:8px;padding:12px 16px;margin:4px 0;max-width:760px;
box-sizing:border-box;font:14px/1.5 var(--jp-content-font-family,system-ui,sans-serif);
text-align:left;overflow-wrap:anywhere}
.ss-card header{display:flex;flex-wrap:wrap;gap:4px 10px;align-items:baseline;color:var(--ss-soft);
background:none;border:0;padding:0;margin:0;font-size:13px}
.ss-card header strong{font-weight:600}
.ss-card header i{font-style:normal;border:1px solid currentColor;border-radius:9px;padding:0 8px;
font-size:12px}
.ss-card .ss-good{color:var(--ss-good)}.ss-card .ss-fair{color:var(--ss-fair)}
.ss-card .ss-bad{color:var(--ss-bad)}
.ss-card .ss-lead{font-size:17px;line-height:1.35;font-weight:600;margin:4px 0 6px}
.ss-card p{margin:6px 0;color:inherit}.ss-card .ss-note{color:var(--ss-soft);font-size:13px}
.ss-card figure{margin:10px 0 4px}
.ss-card figure svg,.ss-card figure img{display:block;width:100%;max-width:560px;height:auto}
.ss-card .ss-scroll{overflow-x:auto;margin:8px 0 4px}
.ss-card table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;margin:0;
border:0}
.ss-card tr,.ss-card tbody tr:nth-child(even),.ss-card tbody tr:hover{background:none}
.ss-card th,.ss-card td{text-align:right;padding:3px 12px 3px 0;border:0;
border-bottom:1px solid var(--ss-line);white-space:nowrap;color:inherit;background:none;
vertical-align:baseline;max-width:none}
.ss-card th{color:var(--ss-soft);font-weight:600}
.ss-card th:first-child,.ss-card td:first-child,.ss-card .ss-words{text-align:left}
.ss-card .ss-words{white-space:normal;min-width:190px}
.ss-card tr.ss-best td{color:var(--ss-good);font-weight:600}
.ss-card td svg{vertical-align:middle;color:var(--c0)}
@media(max-width:480px){.ss-card td svg{width:60px}.ss-card{padding:10px 12px}}
.ss-card pre,.ss-card code{font-family:var(--jp-code-font-family,ui-monospace,Menlo,Consolas,
"DejaVu Sans Mono",monospace);font-size:12.5px;background:none;color:inherit;padding:0;border:0}
.ss-card pre{border-left:3px solid var(--ss-line);padding:2px 0 2px 10px;margin:8px 0 2px;
white-space:pre-wrap}"""
).replace("\n", "")

_serial = itertools.count(1)


class Card:
    """Collects the parts of a card in order.

    >>> card = Card("Result", "a < b", chip="good", tone="good")
    >>> "a &lt; b" in card.html()
    True
    """

    def __init__(self, kind: str, lead: str, *, chip: str = "", tone: Tone = "") -> None:
        mark = f'<i class="ss-{tone or "soft"}">{cut(chip)}</i>' if chip else ""
        self._parts = [
            f"<header><strong>{cut(kind)}</strong>{mark}</header>",
            f'<p class="ss-lead">{cut(lead, WORDS)}</p>',
        ]

    def text(self, text: str) -> None:
        """Add a paragraph."""
        if text:
            self._parts.append(f"<p>{cut(text, WORDS)}</p>")

    def note(self, text: str) -> None:
        """Add small print."""
        if text:
            self._parts.append(f'<p class="ss-note">{cut(text, WORDS)}</p>')

    def code(self, text: str, *, inline: bool = False) -> None:
        """Add code, on lines of its own or in a paragraph."""
        marked = f"<code>{cut(text, WORDS)}</code>"
        self._parts.append(f"<p>{marked}</p>" if inline else f"<pre>{marked}</pre>")

    def figure(self, drawing: str) -> None:
        """Add what `picture` made; nothing for an empty one."""
        if drawing:
            self._parts.append(f"<figure>{drawing}</figure>")

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        total: int = 0,
        best: int | None = None,
        words: Collection[int] = (),
        raw: Collection[int] = (),
    ) -> None:
        """Add a table of at most `ROWS` rows, of the `total` that there are.

        Row number `best` stands out, columns `words` are set as text, as are those with a long
        cell; `raw` hold markup of ours.
        """
        kept = [list(map(str, row)) for row in itertools.islice(rows, ROWS)]
        long = (k for row in kept for k, cell in enumerate(row) if len(cell) > LONG)
        words, body = {*words, *long} - {*raw}, []
        for index, row in enumerate(kept):
            marked = [cell if k in raw else cut(cell) for k, cell in enumerate(row)]
            start = '<tr class="ss-best">' if index == best else "<tr>"
            body.append(start + _cells("td", marked, words) + "</tr>")
        head = f"<tr>{_cells('th', [cut(name) for name in header], words)}</tr>"
        self._parts.append(
            f'<div class="ss-scroll"><table><thead>{head}</thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )
        if total > len(kept):
            self.note(f"and {total - len(kept):,} more")

    def html(self) -> str:
        """The whole card."""
        return f'<div class="ss-card"><style>{STYLE}</style>{"".join(self._parts)}</div>'


def _cells(tag: str, cells: Sequence[str], words: Collection[int]) -> str:
    return "".join(
        f'<{tag} class="ss-words">{cell}</{tag}>' if k in words else f"<{tag}>{cell}</{tag}>"
        for k, cell in enumerate(cells)
    )


def cut(text: Any, most: int = CELL) -> str:
    """Text with an ellipsis in the place of what is too long, escaped.

    >>> cut("<" * 100, 5)
    '&lt;&lt;…&lt;&lt;'
    """
    words = str(text)
    if len(words) > most:
        words = f"{words[: most // 2]}…{words[len(words) - (most - 1) // 2 :]}"
    return html.escape(words)


def picture(draw: Callable[[], Any], words: str) -> str:
    """The figure of the axes that a function draws, as markup; empty where there can be none.

    It belongs to no window, and is drawn with matplotlib's own defaults: a style or a TeX that the
    user has set must not make one card unlike another.
    """
    try:
        with _as_shipped(), offscreen():
            axes = draw()
            drawn = plots.svg(axes, cut(words, 200))
            if len(drawn) > LARGEST_SVG:
                pixels = base64.b64encode(plots.png(axes, dpi=DPI)).decode()
                return f'<img alt="{cut(words, 200)}" src="data:image/png;base64,{pixels}">'
    except Exception:  # a card without its picture is better than none
        return ""
    return _own_names(_with_fallbacks(drawn))


@contextlib.contextmanager
def _as_shipped() -> Iterator[None]:
    """Matplotlib's defaults but for the backend, signs of mathematics as they are, no warnings."""
    import matplotlib

    ours: Any = {k: v for k, v in dict.items(matplotlib.rcParamsDefault) if k != "backend"}
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("ignore")
        matplotlib.rcParams.update(ours | {"text.parse_math": False})
        yield


def _with_fallbacks(drawing: str) -> str:
    """Colours that hold where the page drops the style that names them."""
    values = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": "#ffffff"}
    for index, (line, label) in enumerate(COLOURS[:6]):
        values |= {f"c{index}": line, f"t{index}": label}
    return re.sub(
        r"var\(--(\w+)\)",
        lambda found: f"var(--{found[1]},{values[found[1]]})" if found[1] in values else found[0],
        drawing,
    )


def _own_names(drawing: str) -> str:
    """The picture with names that no other one on the page has.

    A reference finds the first of its name, and where that one is hidden, nothing is drawn.
    """
    own = f"-ss{next(_serial)}"
    drawing = re.sub(r'(\bid="[^"]+)"', rf'\1{own}"', drawing)
    drawing = re.sub(r"(url\(#[^)]+)\)", rf"\1{own})", drawing)
    return re.sub(r'(href="#[^"]+)"', rf'\1{own}"', drawing)
