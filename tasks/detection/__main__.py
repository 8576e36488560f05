"""`python -m tasks.detection train`."""

import sys

from tasks.common.cli.main import main

if __name__ == "__main__":
    sys.exit(main("detection", sys.argv[1:]))
