"""Train a run for some units of work, with whatever code is imported: SETTINGS.json RUNS COUNT

Exit status 3 where it was stopped, 0 where it came to its end.
"""

import json
import sys
from pathlib import Path

from src.config import RunConfig
from src.run import run

if __name__ == "__main__":
    settings, runs, count = sys.argv[1:]
    left = iter(range(int(count)))
    try:
        config = RunConfig(**json.loads(Path(settings).read_text()))
        run([config], runs_dir=Path(runs), stop=lambda: next(left, None) is None)
    except Exception as error:
        if type(error).__name__ != "Stopped":
            raise
        sys.exit(3)
