"""python src/main.py: flags, error messages, progress output, signals, --continue."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from src.cli.arguments import Parser
from src.cli.config_flags import add_config_flags
from src.common.option_fields import kind_of
from src.common.paths import ROOT
from src.config import FIELD_GROUPS, RunConfig, given_names
from src.sweep import __main__ as sweep_commands
from src.tune import __main__ as tune_commands
from tests.conftest import RunCommand

SMALL = ("-d", "synthetic", "-m", "cifar10net", "-b", "50", "-l", "0.001", "--max_images", "400")
PUBLISHED = (
    "python src/main.py -d ./cifar-10 -e 50 -b 64 -m resnet -s step -a -l 0.001 -w 0.0001 -g 0.97 "
    "-f 5 -p 10"
)


def result(runs: Path) -> dict[str, Any]:
    """Return the only result under `runs`, without fields that differ between attempts."""
    [path] = runs.glob("*/*/result.json")
    numbers: dict[str, Any] = json.loads(path.read_text())
    for name in ("train_seconds", "images_per_second", "attempt"):
        del numbers[name]
    return numbers


def config_of(words: list[str]) -> dict[str, Any]:
    """Return the RunConfig that src/main.py makes of a command line, as a dictionary."""
    code = (
        "import sys, dataclasses, json; import src.main as m\n"
        "m.train = lambda configs, parsed: print(json.dumps(configs[0].as_dict()))\n"
        "m.main(sys.argv[1:])"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, check=True, capture_output=True, text=True
    )
    config: dict[str, Any] = json.loads(completed.stdout)
    return config


def test_published_command_line_gives_expected_config(command: RunCommand) -> None:
    config = config_of(PUBLISHED.split()[2:])
    expected = {
        **{"base_dataset_path": "./cifar-10", "num_epochs": 50, "batch_size": 64},
        **{"model_type": "resnet", "scheduler": "step", "data_augmentation": True},
        **{"learning_rate": 0.001, "weight_decay": 0.0001, "gamma": 0.97},
        **{"val_freq": 5, "early_stopping_patience": 10},
    }
    assert {name: config[name] for name in expected} == expected


def test_flags_override_yaml_and_accept_dashes_or_underscores(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("learning_rate: 1e-2\ndata_augmentation: true\nnum_epochs: 3\n")
    config = config_of(["--config", str(file), "--num-epochs=5", "--no-data-augmentation"])
    assert config["learning_rate"] == 0.01
    assert config["num_epochs"] == 5
    assert config["data_augmentation"] is False
    assert config_of(["--early_stopping_patience", "3"])["early_stopping_patience"] == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--batch_norm"], True),
        (["--no-batch-norm"], False),
        (["--config", "FILE"], True),
        (["--config", "FILE", "--no_batch_norm"], False),
    ],
)
def test_optional_model_flags_default_to_none(
    tmp_path: Path, words: list[str], expected: bool | None
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("batch_norm: true\nhidden_units: 32\n")
    config = config_of([str(file) if word == "FILE" else word for word in words])
    assert config["batch_norm"] is expected
    assert config["hidden_units"] == (32 if words[:1] == ["--config"] else None)


HELP_COMMANDS = [
    ("src/main.py",),
    ("-m", "src.evaluate"),
    ("-m", "src.report"),
    ("-m", "src.sweep"),
    ("-m", "src.tune"),
    *(("-m", "src.sweep", name) for name in sweep_commands.COMMANDS),
    *(("-m", "src.tune", name) for name in tune_commands.COMMANDS),
]


@pytest.mark.parametrize("words", HELP_COMMANDS, ids=" ".join)
def test_help_fits_80_columns(command: RunCommand, words: tuple[str, ...]) -> None:
    environment = {**os.environ, "COLUMNS": "80"}
    lines = command("python", *words, "--help", env=environment).stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert sum("cifar10net_7" in line for line in lines) <= 1, "the models must be listed only once"


def test_help_joins_the_lines_of_a_paragraph_and_keeps_tables() -> None:
    text = "One line,\nanother line.\n\n  a     the first\n  bc    the second\n\nThe end."
    parser = Parser(prog="x", description=text)
    assert (
        "\n\nOne line, another line.\n\n  a     the first\n  bc    the second\n\nThe end.\n\n"
        in parser.format_help()
    )


def test_help_puts_choices_into_parentheses() -> None:
    parser = Parser()
    add_config_flags(parser)
    text = " ".join(parser.format_help().split())
    assert "where to train (auto, cpu, cuda, cuda:N); auto: a GPU if there is one [auto]" in text


def test_help_of_evaluate_shows_no_default_of_training(command: RunCommand) -> None:
    text = " ".join(command("python", "-m", "src.evaluate", "--help").stdout.split())
    assert "where to train" not in text
    assert "timm:NAME [resnet]" not in text
    before, _, elsewhere = text.partition("weights that were trained elsewhere:")
    for flag in ("--model_type", "--dataset NAME", "--normalization"):
        assert flag not in before.partition("options:")[2]
        assert flag in elsewhere
    assert "where to evaluate (auto, cpu, cuda, cuda:N)" in before


def test_every_field_that_people_give_has_a_group_and_a_metavar() -> None:
    for spec in (spec for spec in fields(RunConfig) if spec.name in given_names()):
        assert spec.metadata["group"] in FIELD_GROUPS, spec.name
        assert spec.metadata["metavar"] or kind_of(spec) == "bool", spec.name


def test_help_is_fast_and_does_not_import_torch(command: RunCommand) -> None:
    """It takes less time than the import of pandas, which is measured with it on a busy machine."""

    def seconds(*words: str) -> float:
        started = time.perf_counter()
        completed = command("python", *words, fresh=True)
        assert "-c" in words or "--early_stopping_patience" in completed.stdout
        return time.perf_counter() - started

    pairs = [(seconds("src/main.py", "--help"), seconds("-c", "import pandas")) for _ in range(3)]
    assert min(taken / yardstick for taken, yardstick in pairs) < 0.7
    code = "import sys; sys.argv = ['x']; import src.main; assert 'torch' not in sys.modules"
    command("python", "-c", code)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-m", "resnt"], "-m/--model_type 'resnt': expected one of resnet, cnn, vit"),
        (["-l", "-1"], "-l/--learning_rate '-1': expected a number above 0"),
        (["-f", "often"], "-f/--val_freq 'often': expected a whole number at least 1"),
        (["-p", "2.5"], "-p/--early_stopping_patience '2.5'"),
        (["--lerning_rate", "1"], "did you mean --learning_rate"),
        (["-e"], "-e/--num_epochs: expected one argument"),
        (["extra"], "unknown argument 'extra'"),
        (["--config", "none.yaml"], "none.yaml: No such file"),
        (["-d", "/nonexistent/here"], "could not be downloaded"),
        (["-d", "src"], "no data_batch_1"),
        (["-d", "synthetic", "--dropout", "0.1"], "--dropout: model resnet has no such option"),
        (["-d", "synthetic", "--batch_norm"], "--batch_norm: model resnet has no such option"),
        (["--hidden_units", "many"], "--hidden_units 'many': expected a whole number at least 1"),
        (["--device", "gpu"], "--device 'gpu': expected one of auto, cpu, cuda"),
        (["--slots", "0"], "--slots"),
    ],
)
def test_bad_input_gives_one_line_error_and_writes_nothing(
    command: RunCommand, tmp_path: Path, words: list[str], part: str
) -> None:
    completed = command("python", "src/main.py", *words, "--runs", tmp_path / "runs", check=2)
    assert re.fullmatch(r"error: [^\n]+\n", completed.stderr)
    assert part in completed.stderr
    assert completed.stdout == ""
    assert not (tmp_path / "runs").exists()


def test_run_from_another_directory_prints_progress_and_result(
    command: RunCommand, tmp_path: Path
) -> None:
    words = ("python", ROOT / "src" / "main.py", *SMALL, "-e", "1", "--runs", "here")
    completed = command(*words, cwd=tmp_path)
    assert re.match(
        r"done +cifar10net_aug_False.* test accuracy .*  here/cifar10net/", completed.stdout
    )
    assert re.search(r"epoch 1/1 \| train loss .* accuracy .* images/s", completed.stderr)
    first = result(tmp_path / "here")
    again = command(*words, "-q", cwd=tmp_path)
    assert (again.stdout, again.stderr) == (completed.stdout, "")
    assert result(tmp_path / "here") == first


def test_failed_run_gives_exit_status_1(command: RunCommand, tmp_path: Path) -> None:
    words = ("-l", "1e30", "--precision", "float32", "-e", "1", "--runs", tmp_path)
    completed = command("python", "src/main.py", *SMALL, *words, check=1)
    assert "failed" in completed.stdout
    assert "non-finite loss: the training loss became" in completed.stdout
    assert "1 of 1 runs are not done: 1 failed" in completed.stderr


def test_progress_bar_is_shown_on_terminal(tmp_path: Path) -> None:
    code = (
        "from src import main; from src.training import console; console._REFRESH_SECONDS = 0.05; "
        "main.run_main(main.main)"
    )
    words = [sys.executable, "-c", code, *SMALL, "-e", "8", "--runs", str(tmp_path)]
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "NO_COLOR": "1"}
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=terminal
    )
    os.close(terminal)
    output = b""
    with suppress(OSError):  # EIO once the other end of the pty is closed
        while part := os.read(controller, 4096):
            output += part
    os.close(controller)
    assert process.wait() == 0
    assert re.search(rb"epoch \d+/8 loss \d\.\d+ acc [\d.]+% [\d,]+ img/s", output)
    assert re.search(rb"\d:\d\d", output), "time left"


def test_signals_save_state_and_same_command_resumes(command: RunCommand, tmp_path: Path) -> None:
    """One signal each in the first epoch, after it, and just before the end."""
    words = ["python", "src/main.py", *SMALL, "-a", "-e", "5", "--max_images", "500", "--runs"]

    def start(runs: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, *words[1:], str(tmp_path / runs)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    command(*words, tmp_path / "a")
    for number, moment in (
        (signal.SIGINT, "train"),
        (signal.SIGTERM, "epoch 2/5"),
        (signal.SIGUSR1, "epoch 4/5"),
    ):
        process = start("b")
        assert process.stderr
        if moment == "train":
            while not list((tmp_path / "b").glob("*/*/attempts/1.json")):
                time.sleep(0.01)
        else:
            for line in process.stderr:
                if moment in line:
                    break
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 3, stderr
        assert "everything is saved" in stderr
        assert list((tmp_path / "b").glob("*/*/resume.pt")) or moment == "train"
        assert not list((tmp_path / "b").glob("*/*/result.json"))
    command(*words, tmp_path / "b")
    assert result(tmp_path / "b") == result(tmp_path / "a")


def test_bar_display_prints_messages_without_markup() -> None:
    """Square brackets in a message are not parsed as rich markup."""
    code = (
        "from src.training.console import BarDisplay\nb = BarDisplay(1)\n"
        "b.note('[enforce fail] [/tmp/x] \\\\')"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert completed.stderr.strip() == "[enforce fail] [/tmp/x] \\"


def test_unwritable_output_path_gives_one_line_error(command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    completed = command("python", "src/main.py", *SMALL, "--runs", tmp_path / "file", check=2)
    assert re.fullmatch(r"error: [^\n]+\n", completed.stderr)
    generate = ("python", "-m", "src.sweep", "generate", "--out", tmp_path / "file")
    completed = command(*generate, check=2)
    assert re.fullmatch(r"error: [^\n]+\n", completed.stderr)


@pytest.mark.cifar10
def test_one_epoch_on_real_cifar10_exceeds_30_percent(
    command: RunCommand, cifar10: str, tmp_path: Path
) -> None:
    settings = "-m cifar10net -s step -a -e 1 -b 64 -l 0.001 --max_images 10000"
    words = ("-d", cifar10, *settings.split())
    command("python", "src/main.py", *words, "--runs", tmp_path, timeout=550)
    [path] = tmp_path.glob("*/*/result.json")
    numbers = json.loads(path.read_text())
    assert numbers["best_val_accuracy"] > 0.3
    assert numbers["test_accuracy_best_val_acc"] > 0.3
    assert numbers["test_images"] == 10_000


def test_continue_starts_new_run_from_parent_weights(command: RunCommand, tmp_path: Path) -> None:
    main = ("python", "src/main.py", "-q", "--runs", tmp_path)
    settings = "-d synthetic -m cifar10net -e 1 -b 50 -l 0.01 --max_images 300"
    command(*main, *settings.split())
    (parent,) = (tmp_path / "cifar10net").iterdir()
    first = json.loads((parent / "result.json").read_text())
    command(*main, "--continue", parent, "-e", "2")
    (child,) = (folder for folder in (tmp_path / "cifar10net").iterdir() if folder != parent)
    config, result = (json.loads((child / f).read_text()) for f in ("config.json", "result.json"))
    assert (config["num_epochs"], config["batch_size"], config["learning_rate"]) == (2, 50, 0.01)
    assert result["parent"] == f"{first['run_id']}/best_val_acc"
    assert result["train_accuracy"] > first["train_accuracy"]
    history = [json.loads(line) for line in (child / "history.jsonl").read_text().splitlines()]
    assert history[0]["train_loss"] < first["train_loss"], (
        "training must start from the parent's weights"
    )
    again = command(*main, "--continue", parent, "-e", "2")
    assert again.stdout.startswith("done")
    rejected = command(*main, "--continue", tmp_path / "nowhere", check=2)
    assert "expected a run folder with best_val_acc.pt" in rejected.stderr


@pytest.mark.parametrize("words", [("src.sweep",), ("src.sweep", "submit", "--help")])
def test_reader_that_has_ended_is_no_error(words: tuple[str, ...]) -> None:
    """As in `python -m src.report ... | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    words = (sys.executable, "-m", *words)
    completed = subprocess.run(words, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert completed.stderr == b""
    assert completed.returncode in (0, 128 + signal.SIGPIPE)  # 0: argparse ignores it


def test_flags_without_effect_are_named(command: RunCommand, tmp_path: Path) -> None:
    words = [*SMALL, "--max_images", "50", "-e", "1", "-s", "cosine", "--t_max", "3", "-g", "0.9"]
    words += ["--rotation", "5", "--runs", str(tmp_path)]
    expected = "no effect on this run: --gamma (only with --scheduler exponential or step), "
    expected += "--rotation (only with --data_augmentation)\n"
    assert command("python", "src/main.py", *words).stderr.startswith(expected)
    assert command("python", "src/main.py", *words, "--quiet").stderr == ""


def test_config_file_is_read_once(command: RunCommand, tmp_path: Path) -> None:
    """A pipe, as of a shell's `<(...)`, has nothing left at a second reading."""
    reader, writer = os.pipe()
    os.write(writer, b"model_type: cifar10net\nnum_epochs: 1\nmax_images: 50\nseed: 7\n")
    os.close(writer)
    words = [sys.executable, "src/main.py", "-d", "synthetic", "--config", f"/dev/fd/{reader}"]
    words += ["--runs", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, pass_fds=[reader], check=True, capture_output=True)
    os.close(reader)
    assert json.loads(next(tmp_path.glob("*/*/config.json")).read_text())["seed"] == 7
