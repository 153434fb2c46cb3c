"""Experiments on a run: copies of it that go on otherwise, to see what would happen."""
