"""What is wrong with a run: the features of its curves, the checks, the verdict."""
