"""`python -m tasks.detection train`."""

import sys

from tasks import detection
from tasks.common.cli import main

if __name__ == "__main__":
    sys.exit(main(detection.DetectionConfig, lambda: detection.DetectionTask, sys.argv[1:]))
