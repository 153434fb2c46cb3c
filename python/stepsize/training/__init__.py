"""The training loop: `fit`, its run, its history, and how a run is resumed."""
