"""Callbacks of `fit`: what looks at a run, or acts on it, between steps and epochs."""
