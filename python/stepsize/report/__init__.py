"""Self-contained web pages of results: text, tables, code and pictures in one file."""

from stepsize.report.page import Page, Tone

__all__ = ["Page", "Tone"]
