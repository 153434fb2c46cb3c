"""Adapters to other libraries, one module each; none is imported with the package."""
