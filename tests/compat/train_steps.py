"""Train a run for some units of work, with whatever code is imported: SETTINGS.json RUNS COUNT

Exit status 3 where it was stopped, 0 where it came to its end.
"""

import json
import sys
from pathlib import Path
from typing import Any

from src import run as run_module
from src.config import RunConfig

if __name__ == "__main__":
    settings, runs, count = sys.argv[1:]
    left = iter(range(int(count)))
    try:
        config = RunConfig(**json.loads(Path(settings).read_text()))
        flow: Any = run_module
        stop = {"stop": lambda: next(left, None) is None}
        if hasattr(flow, "RunOptions"):  # the code of today; bb2b8bc had none
            flow.run([config], runs_dir=Path(runs), options=flow.RunOptions(**stop))
        else:
            flow.run([config], runs_dir=Path(runs), **stop)
    except Exception as error:
        if type(error).__name__ != "Stopped":
            raise
        sys.exit(3)
