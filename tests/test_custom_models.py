"""An architecture of a person's own goes through every command that a registered one does."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from src import evaluate
from src.common import model_source
from src.common.errors import ExitStatus, Stopped
from src.common.paths import RESUME
from src.config import RunConfig, from_mapping
from src.main import main
from src.report import reproduce_command
from src.report.__main__ import main as report
from src.report.page.render import write_page
from src.report.report_data import TableOptions, load_report
from src.report.run_analysis import tsne
from src.run import RunOptions, run
from src.runs.model_versions import changes
from src.sweep import sets
from src.sweep.commands import confirm, estimate, generate, status, submit, work
from src.sweep.cost import speed_key
from src.sweep.launch import submission_record
from src.tune import search_space
from src.tune.commands import lr_find, search
from tests import own_nets
from tests.own_nets import FAST, own_run
from tests.report import page_data

MODEL = "my_nets.py:SmallNet"
FLAGS = [
    *("-d", "synthetic", "-e", "2", "-b", "25", "--max_images", "100", "-l", "0.01"),
    *("--precision", "float32", "--memory_format", "contiguous", "--convolution", "direct"),
    *("--device", "cpu"),
]
QUIET = ["--runs", "runs", "-q", "--wandb", "disabled"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with my_nets.py the current one."""
    monkeypatch.chdir(tmp_path)
    own_nets.write(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two runs of an own module and one of an own Classifier beside their source."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        own_nets.write(folder)
        own_nets.write(folder, own_nets.CLASSIFIER, "nets/more.py")
        configs = [own_run(), own_run(model_option="width=6"), own_run("nets/more.py:Featured")]
        assert {outcome.state for outcome in run(configs, Path("runs"))} == {"done"}
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder of the trained runs the current one."""
    monkeypatch.chdir(trained)
    return trained


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path / "best_val_acc.pt", weights_only=True)
    return found


def same(one: Path, other: Path) -> bool:
    """Return whether two runs have the same history and weights, bit for bit."""
    rows = [
        [
            {name: value for name, value in json.loads(line).items() if name != "seconds"}
            for line in (path / "history.jsonl").read_text().splitlines()
        ]
        for path in (one, other)
    ]
    first, second = weights(one), weights(other)
    equal = all(torch.equal(value, second[name]) for name, value in first.items())
    return rows[0] == rows[1] and first.keys() == second.keys() and equal


# training


def test_group_and_resume_give_the_bits_of_a_run_alone(folder: Path) -> None:
    configs = [own_run(seed=seed, ema=0.9 * (seed == 1)) for seed in range(2)]
    alone = [run([config], folder / "alone")[0].folder for config in configs]
    grouped = run(configs, folder / "grouped", RunOptions(slots=2))
    remaining = iter(range(13))
    options = RunOptions(slots=2, stop=lambda: next(remaining, None) is None)
    with pytest.raises(Stopped):
        run(configs, folder / "parts", options)
    assert list((folder / "parts").glob(f"*/*/{RESUME}"))
    resumed = run(configs, folder / "parts")
    for path, together, again in zip(alone, grouped, resumed, strict=True):
        assert same(path, together.folder)
        assert same(path, again.folder)


def test_command_line_trains_and_the_reproducing_one_finds_it_done(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", MODEL, "--model_option", "width=6", "--model_option", "drop=0.2", *FLAGS]
    assert main([*words, *QUIET]) == ExitStatus.DONE
    [path] = folder.glob("runs/my_nets.SmallNet/*/config.json")
    stored = json.loads(path.read_text())
    assert stored["model_option"] == "drop=0.2,width=6"
    assert list(weights(path.parent)) == [
        *("body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias", "body.1.running_mean"),
        *("body.1.running_var", "body.1.num_batches_tracked", "last.weight", "last.bias"),
    ]
    command = reproduce_command.from_config(from_mapping(stored, "config.json"))
    assert f" -m {MODEL} " in command
    assert "digest" not in command
    before = path.with_name("result.json").read_bytes()
    assert main([*shlex.split(command)[2:], *QUIET]) == ExitStatus.DONE
    assert path.with_name("result.json").read_bytes() == before
    assert capsys.readouterr().out.count("done ") == 2
    assert len(list(folder.glob("runs/*/*/config.json"))) == 1


def test_edited_model_makes_new_runs_with_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", MODEL, *FLAGS, "-e", "1", "--runs", "runs", "--wandb", "disabled"]
    main(words)
    assert "has changed" not in capsys.readouterr().err
    own_nets.write(folder, f"{own_nets.SMALL}# edited\n")
    sets.write([[own_run(num_epochs=1), own_run(num_epochs=1, seed=9)]], folder / "sets")
    line = "my_nets.py has changed since the runs in runs/my_nets.SmallNet: 1 run is new\n"
    assert status.main(["--sets", "sets", "--runs", "runs", "--json"]) == ExitStatus.DONE
    seen = capsys.readouterr()
    assert line in seen.err
    assert json.loads(seen.out)["all"]["trainings"]["done"] == 0
    submit.main(["--sets", "sets", "--runs", "runs", "--executor", "inline", "--dry_run"])
    assert line in capsys.readouterr().err
    main(words)
    assert line in capsys.readouterr().err
    assert len(list(folder.glob("runs/my_nets.SmallNet/*/result.json"))) == 2
    assert changes([own_run(num_epochs=1)], folder / "runs") == [], "it is no longer new"


def test_model_that_would_not_resume_exactly_is_named_and_trained(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = own_nets.SMALL.replace("self.body(x)", "self.body(x) * numpy.random.rand()")
    own_nets.write(folder, f"import numpy\n{noisy}")
    words = ["-m", MODEL, *FLAGS, "-e", "1", "--runs", "runs", "--wandb", "disabled"]
    assert main(words) == ExitStatus.DONE
    lines = [line for line in capsys.readouterr().err.splitlines() if "resumed will differ" in line]
    assert len(lines) == 1
    assert "my_nets.SmallNet" in lines[0]
    assert "depends on more than its state dict and torch's random state" in lines[0]


def test_wrong_output_ends_before_anything_is_written(
    folder: Path, expect_bad_input: Callable[..., str]
) -> None:
    own_nets.write(folder, own_nets.SMALL.replace("* width, num_classes", "* width, 7"))
    line = expect_bad_input(main, "-m", MODEL, *FLAGS, *QUIET)
    assert "it returned (4, 7) for 4 images; expected logits (4, 10), one for each class" in line
    assert not (folder / "runs").exists()


def test_torchvision_model_is_trained_and_restored_without_being_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "torchvision:squeezenet1_1", *FLAGS, "-e", "1", *QUIET]
    words += ["--max_images", "50"]
    assert main(words) == ExitStatus.DONE
    [path] = folder.glob("runs/torchvision.squeezenet1_1/*/result.json")
    assert evaluate.main(["--model", str(path.parent), "--json"]) == ExitStatus.DONE
    output = capsys.readouterr().out
    found = json.loads(output[output.index("{") :])
    accuracy = json.loads(path.read_text())["test_accuracy_best_val_acc"]
    assert found["accuracy"] == accuracy


# sweeps


def test_sets_of_a_grid_are_trained_with_early_stopping_and_pruning(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = {name: value for name, value in FAST.items() if name != "base_dataset_path"}
    grid |= {"model_type": MODEL, "num_epochs": 4, "early_stopping_patience": 1}
    grid |= {"model_option": {"width": [2, 4]}, "seed": [0, 1], "learning_rate": 10}
    (folder / "grid.yaml").write_text(json.dumps(grid))
    assert generate.main(["--grid", "grid.yaml", "--out", "sets"]) == ExitStatus.DONE
    assert MODEL in (folder / "sets" / "hyperparameters_1.txt").read_text()
    words = ["--sets", "sets", "-d", "synthetic", *QUIET, "--prune", "--first_rung", "1"]
    assert work.main(words) == ExitStatus.DONE
    results = [
        json.loads(p.read_text()) for p in folder.glob("runs/my_nets.SmallNet/*/result.json")
    ]
    results += [
        json.loads(p.read_text()) for p in folder.glob("runs/my_nets.SmallNet/*/pruned.json")
    ]
    reasons = {result["stop_reason"] for result in results}
    assert len(results) == 4
    assert reasons & {"early stopping", "pruned"}
    assert "my_nets.SmallNet_aug_False" in capsys.readouterr().out


def test_estimate_tells_versions_and_options_apart(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = own_run(model_option="width=6")
    sets.write([[config]], folder / "sets")
    words = ["--sets", "sets", "--runs", "runs", "--seconds", "1", "--device", "cpu", "--json"]
    assert estimate.main(words) == ExitStatus.DONE
    found = json.loads(capsys.readouterr().out)
    digest = str(config.model_digest)[:6]
    [[name, *_, speed]] = found["speeds"]
    assert name == f"my_nets.SmallNet[width=6] ({digest})"
    assert speed["features"] == 0
    assert speed_key(own_run()) == (f"my_nets.SmallNet ({digest})", 25, False)
    assert list(found["models"]) == ["my_nets.SmallNet"]


def test_submission_trains_what_was_submitted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its workers find the copies, whatever the person has done to the files since."""
    own_nets.write(folder, own_nets.SMALL, "zoo/nets.py")
    configs = [own_run(num_epochs=1), own_run("zoo.nets:SmallNet", num_epochs=1)]
    submission = folder / "submission"
    submission.mkdir()
    submission_record.fill(submission, [configs], {})
    own_nets.write(folder, "raise SystemError('edited')\n")
    (folder / "zoo" / "nets.py").unlink()
    monkeypatch.setattr(model_source, "ROOT", submission / "code")  # as in a worker
    monkeypatch.setattr(model_source, "_trusted", {})
    assert work.main(["1", "--sets", str(submission / "sets"), *QUIET]) == ExitStatus.DONE
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["done", "done"]
    for config in configs:
        assert list(folder.glob(f"runs/*/*-{config.id}/result.json"))


def test_source_that_was_edited_while_submitting_is_refused(folder: Path) -> None:
    config = own_run()
    own_nets.write(folder, f"{own_nets.SMALL}# edited\n")
    (folder / "submission").mkdir()
    with pytest.raises(Exception, match="edited while it was submitted"):
        submission_record.fill(folder / "submission", [[config]], {})


def test_slurm_script_of_an_own_model_has_a_safe_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets.write([[own_run()]], folder / "sets")
    words = ["--sets", "sets", "--runs", "runs", "--dry_run", "--time", "my_nets.py:SmallNet=60"]
    assert submit.main(words) == ExitStatus.DONE
    text = capsys.readouterr().out
    assert "#SBATCH --job-name=cifar10-1-my_nets.SmallNet\n" in text
    assert "#SBATCH --time=60\n" in text
    assert "--- my_nets.SmallNet.sh" in text


def test_search_varies_options_of_an_own_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {**FAST, "model_type": MODEL, "num_epochs": 1}
    settings["search"] = {"model_option": ["width=2", "width=4"]}
    (folder / "small.yaml").write_text(json.dumps(settings))
    words = ["--config", "small.yaml", "--trials", "2", "--out", "out", "--json", *QUIET]
    assert search.main(words) == ExitStatus.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["trials"]["complete"] == 2
    recipe = (folder / "out" / "small_best.yaml").read_text()
    assert f"model_type: {MODEL}" in recipe
    assert "digest" not in recipe
    own_nets.write(folder, f"{own_nets.SMALL}# edited\n")
    assert search_space.read(Path("small.yaml"), {}).name != found["study"], "another search"


def test_rate_is_found_for_an_own_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", MODEL, *FLAGS[:4], *FLAGS[6:], "--steps", "20", "--out", "out", "--json"]
    assert lr_find.main(words) == ExitStatus.DONE
    assert json.loads(capsys.readouterr().out)["learning_rate"] > 0
    assert (folder / "out" / "my_nets.SmallNet_lr_find.csv").is_file()


# reports and analyses


def test_report_shows_own_models(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = ["--runs", "runs", "--csv", "table.csv"]
    assert report(["aggregate", *table]) == ExitStatus.DONE
    rows = (here / "table.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["more.Featured", *["my_nets.SmallNet"] * 2]
    for words in (
        ["top-k", "table", *table, "--model", MODEL],
        ["confusion", "--runs", "runs", "--out", "report"],
        ["curves", "--runs", "runs", "--out", "report"],
    ):
        assert report(words) == ExitStatus.DONE, words
    assert list((here / "report").glob("my_nets.SmallNet-*_confusion.png"))
    loaded = load_report(TableOptions(csv=here / "table.csv", runs_dir=here / "runs"))
    page = write_page(loaded, here / "report", None).read_text()
    details = page_data.runs_of(page)
    of_model = [one for one in details.values() if f"-m {MODEL}" in one["command"]]
    assert len(of_model) == 2
    assert any("--model_option width=6" in one["command"] for one in of_model)
    assert not any("plane" in one for one in of_model)
    assert tsne.NO_FEATURES in page


def test_tsne_is_left_out_without_features(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tsne", "--runs", "runs", "--out", "tsne", "--images", "20"]
    assert report(words) == ExitStatus.DONE
    seen = capsys.readouterr()
    assert "left out: my_nets.SmallNet " in seen.err
    assert tsne.NO_FEATURES in seen.err
    assert {path.name.partition("-")[0] for path in (here / "tsne").iterdir()} == {"more.Featured"}


def test_weights_are_evaluated_exported_and_summarized_by_name(
    here: Path, capsys: pytest.CaptureFixture[str], expect_bad_input: Callable[..., str]
) -> None:
    [path] = [p.parent for p in here.glob("runs/my_nets.SmallNet/*/config.json")
              if json.loads(p.read_text()).get("model_option") == "width=6"]  # fmt: skip
    accuracy = json.loads((path / "result.json").read_text())["test_accuracy_best_val_acc"]
    words = ["--model", str(path), "-m", "my_nets:SmallNet", "--json", "--out", "out"]
    assert evaluate.main(words) == ExitStatus.DONE
    assert json.loads(capsys.readouterr().out)["accuracy"] == accuracy
    words = ["export", str(path), "--out", "net.pt2", "-m", MODEL]
    assert evaluate.main(words) == ExitStatus.DONE
    program = torch.export.load(here / "net.pt2").module()
    assert program(torch.zeros(3, 3, 32, 32, dtype=torch.uint8)).shape == (3, 10)
    capsys.readouterr()
    assert report(["summary", "--run", str(path), "-m", MODEL, "--json"]) == ExitStatus.DONE
    [found] = json.loads(capsys.readouterr().out)
    assert (found["model"], found["options"]) == ("my_nets.SmallNet", {"width": 6})
    assert (
        found["parameters"]
        == sum(value.numel() for name, value in weights(path).items() if "running" not in name) - 1
    )  # fmt: skip  batches counted by batch norm
    words = ["summary", "--model", MODEL, "--model_option", "width=3", "--json"]
    assert report(words) == ExitStatus.DONE
    assert json.loads(capsys.readouterr().out)[0]["parameters"] < found["parameters"]
    words = ["tsne", "--sample", "train", "--runs", "runs", "--model", "more.Featured"]
    words += ["-m", "nets/more.py:Featured", "--images", "20", "--out", "out"]
    assert report(words) == ExitStatus.DONE


def test_parent_is_continued_if_its_model_is_named(
    here: Path, expect_bad_input: Callable[..., str]
) -> None:
    path = next(here.glob("runs/more.Featured/*"))
    words = ("--continue", path, "-e", 1, "--runs", "more_runs", "-q", "--wandb", "disabled")
    line = expect_bad_input(main, *words)
    assert "run only if you name it yourself: -m nets/more.py:Featured" in line
    assert main([*map(str, words), "-m", "nets/more.py:Featured"]) == ExitStatus.DONE
    [child] = here.glob("more_runs/more.Featured/*/config.json")
    assert json.loads(child.read_text())["parent"] != "none"


def test_winner_is_confirmed_if_its_model_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], expect_bad_input: Callable[..., str]
) -> None:
    words = ["--seeds", "1", "--final_seeds", "0", "-k", "1", "--runs", "runs"]
    with pytest.raises(Exception, match="no finished run"):
        confirm.main(words)
    assert f"left out: --model {MODEL} confirms" in capsys.readouterr().err
    assert confirm.main([*words, "--model", MODEL]) == ExitStatus.DONE
    [path] = here.glob("runs/confirmations/sets/*.txt")
    [config] = sets.read(path)
    assert config.model_digest == own_run().model_digest
    assert config.seed > 0


def test_digest_in_python_is_set_when_a_run_starts(folder: Path) -> None:
    config = RunConfig(**{**FAST, "model_type": MODEL, "num_epochs": 1})
    [outcome] = run([config], folder / "runs")
    assert outcome.state == "done"
    assert (
        outcome.config
        == own_run(num_epochs=1)
        == replace(config, model_digest=outcome.config.model_digest)
    )
