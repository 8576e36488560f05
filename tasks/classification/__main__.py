"""`python -m tasks.classification train`."""

import sys

from tasks import classification
from tasks.common.cli import main

if __name__ == "__main__":
    sys.exit(main(classification.ClassificationConfig, lambda: classification.ClassificationTask, sys.argv[1:]))
