"""`python -m backbone cost mobilenet_0.5_160`."""

import sys

from backbone.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
