"""A conformance suite for optimizer libraries: rules and schedules as their papers state them.

Statements are run in arithmetic of 50 digits and compared with what a library computes. The package
imports no library but in its adapter: `python -m conformance --help`, from the folder it is in.
"""
