"""Hyperparameters for another batch size, training length and width than they were found with."""
