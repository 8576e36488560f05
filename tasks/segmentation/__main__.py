"""`python -m tasks.segmentation train`."""

import sys

from tasks.common.cli.main import main

if __name__ == "__main__":
    sys.exit(main("segmentation", sys.argv[1:]))
