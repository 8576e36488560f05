"""`python -m tasks.attributes train`."""

import sys

from tasks.common.cli.main import main

if __name__ == "__main__":
    sys.exit(main("attributes", sys.argv[1:]))
