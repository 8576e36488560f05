"""`python -m tasks.attributes train`."""

import sys

from tasks import attributes
from tasks.common.cli import main

if __name__ == "__main__":
    sys.exit(main(attributes.AttributesConfig, lambda: attributes.AttributesTask, sys.argv[1:]))
