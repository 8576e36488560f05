"""`python -m datasets check FOLDER`."""

import sys

from datasets.tools.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
