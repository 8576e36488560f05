"""`python -m tasks.embedding train`."""

import sys

from tasks.common.cli.main import main
from tasks.embedding.cli import COMMANDS

if __name__ == "__main__":
    sys.exit(main("embedding", sys.argv[1:], COMMANDS))
