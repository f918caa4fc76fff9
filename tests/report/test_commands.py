"""Commands of python -m src.report."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.common.errors import UserError
from src.report import commands, report_data
from src.report.__main__ import COMMANDS, main
from src.report.report_data import ReportData
from src.report.report_options import EVERY_FLAG
from src.sweep import grid
from src.sweep.status.page_state import read_sets
from tests.common.test_json_text import strictly_parsed
from tests.conftest import RunCommand
from tests.report import synthetic_sweep
from tests.report.page_data import core_of


def test_report_commands_on_published_table(
    command: RunCommand, published: Path, tmp_path: Path
) -> None:
    report = ("python", "-m", "src.report")
    done = command(*report, "--csv", published, "--out", tmp_path / "r")
    written = {path.name for path in (tmp_path / "r").iterdir()}
    names = [f"{m}_{what}" for m in ("cnn", "resnet", "vit") for what in ("top_k", "pairs")]
    names += ["overall", "effects", "importance", "parallel", "scatter"]
    charts = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert written == charts | {"report.html", "findings.md", "tables"}
    assert done.stdout.splitlines()[-1].endswith("report.html")
    done = command(
        *report, "top-k", "table", "--csv", published, "--model", "vit", "-k", 3, "--json"
    )
    rows = strictly_parsed(done.stdout)
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert {row["seed_deviation"] for row in rows} == {None}, "of one seed"
    mixed = pd.read_csv(published).assign(test_images=np.nan, num_epochs=np.nan)
    mixed.loc[0, ["test_images", "num_epochs"]] = [10_000, 80]
    mixed.assign(best_val_accuracy=np.nan).to_csv(tmp_path / "mixed.csv")
    command(*report, "overall", "--csv", tmp_path / "mixed.csv", "--out", tmp_path / "r")
    for words, part in [
        (("--json",), "--json: only `top-k table`"),
        (("graphs",), "unknown report 'graphs'"),
        (("--model", "lenet"), "expected one of resnet, cnn, vit"),
        (("--rank-by", "best"), "--rank_by 'best'"),
        (("-k", "0"), "whole number above 0"),
        (("--csv", "none.csv"), "No such file"),
    ]:
        done = command(
            *report, *words, *(() if "--csv" in words else ("--csv", published)), check=2
        )
        assert re.match(r"error: .*\n$", done.stderr)
        assert part in done.stderr


def test_report_commands_on_run_folders(trained: Path, command: RunCommand, tmp_path: Path) -> None:
    words = ("python", "-m", "src.report")
    table_arguments = ("--runs", trained, "--csv", tmp_path / "runs.csv")
    command(*words, "aggregate", *table_arguments)
    text = command(*words, "findings", *table_arguments).stdout
    assert text.startswith("# What the sweep has shown\n")
    assert "\n## cifar10net\n" in text
    done = command(*words, "importance", *table_arguments, "--out", tmp_path, check=2)
    assert done.stderr == (
        "error: importance: nothing to draw: cifar10net: only 2 finished runs; it needs 8. "
        "tinyvgg: only 1 finished run; it needs 8\n"
    )
    paths = command(*words, "tables", *table_arguments, "--out", tmp_path).stdout.split()
    assert {Path(path).name for path in paths} >= {"top_k.csv", "top_k.md", "overall.tex"}
    rows = json.loads(command(*words, "top-k", "table", *table_arguments, "--json").stdout)
    of_file = pd.read_csv(tmp_path / "tables" / "top_k.csv").to_dict("records")
    assert [row["test_accuracy"] for row in rows] == [row["test_accuracy"] for row in of_file]


def test_only_aggregate_and_page_write_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other commands look at a folder of runs and leave the table of the sweep as it is."""
    runs, csv = tmp_path / "runs", tmp_path / "clean_runs.csv"
    monkeypatch.setattr(report_data, "CSV_FILE", csv)
    monkeypatch.setattr(commands, "CSV_FILE", csv)
    cells = [replace(one, base_dataset_path="cifar-10") for one in synthetic_sweep.configs()[:3]]
    synthetic_sweep.make(runs, np.arange(200) % 10, cells)
    words = ["--runs", str(runs), "--model", cells[0].model_type]
    for name in ("findings", "top-k table", "tables", "overall"):
        options = words if name in ("findings", "top-k table") else [*words, "--out", str(tmp_path)]
        assert main([*name.split(), *options]) == 0
        assert not csv.exists()
    rows = capsys.readouterr().out
    assert main(["aggregate", "--runs", str(runs)]) == 0
    assert len(pd.read_csv(csv)) == 3
    assert main(["top-k", "table", *words, "--csv", str(csv)]) == 0
    assert capsys.readouterr().out.partition("\n")[2] in rows


def test_bad_input_gives_one_line_error(
    sweep: Path, report: ReportData, expect_bad_input: Callable[..., str], tmp_path: Path
) -> None:
    csv = ("--csv", sweep.parent / "clean_runs.csv", "--out", tmp_path)
    for words, message in [
        (("page", *csv, "--watch", "0"), "0.1 or more"),
        (("page", *csv, "--sets", tmp_path), "--runs must name the run folders"),
        (("page", "--sets", "a", "--grid", "b", *csv, "--runs", sweep), "expected one of them"),
        (("overall", *csv, "--watch"), "-watch: `overall` has no such option, but `page`"),
    ]:
        assert message in expect_bad_input(main, *words)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_the_flags_of_a_command(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    shown = re.findall(r"^  (?:-\w, )?--?(\w+)", text, re.MULTILINE)
    assert set(shown) == {"help", *COMMANDS[name].flags}
    listed = re.findall(r"^  (\w\S*(?: \w+)?)  ", text, re.MULTILINE)
    assert listed == ([] if name else [other for other in COMMANDS if other])


@pytest.mark.parametrize("flag", [flag for flag in EVERY_FLAG if flag != "k"])
def test_every_flag_is_accepted_by_its_commands_alone(
    flag: str, expect_bad_input: Callable[..., str]
) -> None:
    values = {
        **{"k": "3", "seed": "7", "images": "5", "sample": "train", "device": "cpu"},
        **{"batch_norm": None, "each_run": None, "json": None, "quiet": None},
    }
    given = [f"--{flag}", *filter(None, [values.get(flag, "9")])]
    for name, command in COMMANDS.items():
        if flag not in command.flags:
            message = expect_bad_input(main, *name.split(), *given)
            assert message.startswith(f"error: --{flag}: ")


def test_read_sets_reads_grid_and_rejects_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("model_type: [cnn, vit]\n")
    sets = read_sets(None, tmp_path / "grid.yaml")
    assert sets is not None
    assert sum(map(len, sets.values())) == len(grid.expand(grid.read(tmp_path / "grid.yaml"))) == 2
    with pytest.raises(UserError, match="no set files"):
        read_sets(tmp_path, None)


def test_watch_rewrites_page_until_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--watch waits for the first finished run; the page written at the end does not reload."""
    runs, page = tmp_path / "runs", tmp_path / "report" / "report.html"
    cells = [replace(one, base_dataset_path="cifar-10") for one in synthetic_sweep.configs()[:3]]
    monkeypatch.setattr(report_data, "CSV_FILE", tmp_path / "clean_runs.csv")
    numbers_of_runs: list[int] = []

    def finish_one_run(seconds: float) -> None:
        assert seconds == 7.5
        shown = core_of(page.read_text()) if page.exists() else {"columns": {"key": []}}
        assert shown.get("watch", 7.5) == 7.5
        numbers_of_runs.append(len(shown["columns"]["key"]))
        if len(numbers_of_runs) == 3:
            raise KeyboardInterrupt
        synthetic_sweep.make(
            runs, np.arange(200) % 10, cells[len(numbers_of_runs) : len(numbers_of_runs) + 1]
        )

    monkeypatch.setattr("time.sleep", finish_one_run)
    synthetic_sweep.make(runs, np.arange(200) % 10, cells[:1], failed=1)
    words = ["page", "--watch", "7.5", "--runs", str(runs), "--out", str(page.parent)]
    assert main(words) == 0
    assert numbers_of_runs == [0, 1, 2]
    assert core_of(page.read_text())["watch"] is None
    captured = capsys.readouterr()
    assert captured.out.endswith("report.html\n")
    assert "no finished run yet" in captured.err
