"""`python -m tasks.classification train`."""

import sys

from tasks.common.cli.main import main

if __name__ == "__main__":
    sys.exit(main("classification", sys.argv[1:]))
