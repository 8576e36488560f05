"""`python -m tasks.geolocation train`."""

import sys

from tasks.common.cli.main import main
from tasks.geolocation.cli import COMMANDS

if __name__ == "__main__":
    sys.exit(main("geolocation", sys.argv[1:], COMMANDS))
