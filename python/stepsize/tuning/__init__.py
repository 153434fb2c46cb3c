"""Hyperparameter search: spaces, samplers, pruning, storage, results."""
