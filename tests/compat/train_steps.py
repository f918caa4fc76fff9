"""Train a run for COUNT steps with the code in PYTHONPATH: train_steps.py SETTINGS.json RUNS COUNT

The exit status is 3 if the run was stopped, 0 if it was finished.
"""

import json
import sys
from pathlib import Path
from typing import Any

from src import run as run_module
from src.config import RunConfig

if __name__ == "__main__":
    settings, runs, count = sys.argv[1:]
    remaining = iter(range(int(count)))
    try:
        config = RunConfig(**json.loads(Path(settings).read_text()))
        module: Any = run_module
        stop = {"stop": lambda: next(remaining, None) is None}
        if hasattr(module, "RunOptions"):  # not in commit bb2b8bc
            module.run([config], runs_dir=Path(runs), options=module.RunOptions(**stop))
        else:
            module.run([config], runs_dir=Path(runs), **stop)
    except Exception as error:
        if type(error).__name__ != "Stopped":
            raise
        sys.exit(3)
