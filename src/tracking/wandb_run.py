"""One run folder as one wandb run. The only module that imports wandb."""

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from src.common import files, paths
from src.common.model_source import model_name
from src.runs.run_folder import RunFolder, State

PROJECT = "cifar10-sweep"
ENDED = (State.DONE, State.PRUNED, State.FAILED)

_INIT_SECONDS = 60
_LOGGED_BY_WANDB = ("versions",)  # keys of a result that wandb records itself


def has_key() -> bool:
    """Whether wandb has a key for its server, from WANDB_API_KEY or `wandb login`."""
    import wandb

    return wandb.login(prompt=False, verify=False)


class WandbRun:
    """A run folder that is being logged to wandb.

    The folder keeps the id of its wandb run, so that a run continues in wandb wherever it does.
    """

    def __init__(
        self, folder: RunFolder, *, mode: str, sweep: str, place: Path, watched: int | None = None
    ) -> None:
        """Start or continue the wandb run. Raises whatever wandb raises.

        mode: online or offline. place: folder of wandb's files. watched: process id whose use of
        the machine is recorded; None for none.
        """
        import wandb

        config = folder.config() or {}
        model = model_name(str(config.get("model_type")))
        noted = files.read_json(folder.path / paths.WANDB)
        self.id = str(noted["id"]) if noted and "id" in noted else uuid.uuid4().hex[:12]
        self.folder, self.online = folder, mode == "online"
        if not noted:
            self._note({"id": self.id})
        if not self.online:
            _forget_offline(place, self.id)
        self.run = wandb.init(
            mode=mode,  # type: ignore[arg-type]
            id=self.id,
            resume="allow" if self.online else None,
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=os.environ.get("WANDB_RUN_GROUP", f"{sweep} {model}"),
            job_type=model,
            name=folder.path.name,
            config={**config, "sweep": sweep},
            dir=str(place),
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                init_timeout=_INIT_SECONDS,
                x_disable_stats=watched is None,
                x_stats_pid=watched or os.getpid(),
            ),
        )
        self.next_epoch = self.run.starting_step  # the first epoch that is not in wandb

    def log_new_epochs(self) -> None:
        """Log the epochs that are new in the folder."""
        for row in self.folder.history():
            if row["epoch"] >= self.next_epoch:
                self.run.log(row, step=row["epoch"])
                self.next_epoch = row["epoch"] + 1

    def finish(self) -> None:
        """Log the rest and how the run ended, or mark it as preempted if it has not ended."""
        self.log_new_epochs()
        state = self.folder.state()
        self.run.summary.update(_summary(self.folder, state))
        if state not in ENDED:
            self.run.mark_preempting()
        url = self.run.url if self.online else None
        self.run.finish(exit_code=0 if state in (State.DONE, State.PRUNED) else 1)
        if self.online:
            self._note({"id": self.id, "url": url, "uploaded": state})

    def _note(self, summary: dict[str, Any]) -> None:
        files.write_json(self.folder.path / paths.WANDB, summary)


def uploaded(folder: RunFolder) -> str | None:
    """The state in which a run was sent to wandb's server in full. Returns None if it was not."""
    state: str | None = (files.read_json(folder.path / paths.WANDB) or {}).get("uploaded")
    return state


def _summary(folder: RunFolder, state: State) -> dict[str, Any]:
    summary: dict[str, Any] = {"state": state.value}
    summary |= folder.result() or folder.pruned() or {}
    if state == State.FAILED:
        failure = folder.failure() or {}
        summary |= {f"failure_{name}": failure.get(name) for name in ("cause", "kind", "message")}
    return {name: value for name, value in summary.items() if name not in _LOGGED_BY_WANDB}


def _forget_offline(place: Path, run_id: str) -> None:
    """Remove the offline files of an earlier attempt: the new one logs everything again."""
    for earlier in (place / "wandb").glob(f"offline-run-*-{run_id}"):
        shutil.rmtree(earlier, ignore_errors=True)
