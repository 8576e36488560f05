"""`python -m distill --teacher facenet --student mobilenet_0.5`."""

import sys

from distill.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
