"""`python -m stepsize`: the same as the `stepsize` command."""

import sys

from stepsize.cli import main

if __name__ == "__main__":
    sys.exit(main())
