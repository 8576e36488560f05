"""`python -m tasks.embedding train`."""

import sys

from tasks import embedding
from tasks.common.cli import main
from tasks.embedding.cli import COMMANDS

if __name__ == "__main__":
    sys.exit(main(embedding.EmbeddingConfig, lambda: embedding.EmbeddingTask, sys.argv[1:], COMMANDS))
