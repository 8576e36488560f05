"""One implementation, timed in this process; `measure.py` starts it and reads the last line of its output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from results.bench.areas import comparisons_of
from results.bench.measure import Workload
from tasks.common.cli.main import exit_status


def main(words: Sequence[str]) -> int:
    """Measure.

    Args:
        words: area, name of the comparison, implementation, and workload as JSON.

    Returns:
        The exit status.
    """
    area, name, implementation, workload = words

    def run() -> int:
        (comparison,) = (comparison for comparison in comparisons_of(area) if comparison.name == name)
        timing = comparison.measure(implementation, Workload(**json.loads(workload)))
        print(json.dumps(timing._asdict()))
        return 0

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
