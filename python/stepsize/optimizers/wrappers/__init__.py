"""Optimizers around an optimizer: averages, gradient transforms, SAM, Mechanic."""
