"""The table of runs: what is read, what is refused, what is an alias."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.common.errors import UserError
from src.report import table


def test_aliases_are_one_run() -> None:
    rows = pd.DataFrame({"Modelname": "cnn", "v": [0.9, 0.9, 0.8], "alias_of": [None, "a", None]})
    assert table.rank(rows, "v")["v"].tolist() == [0.9, 0.8]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not a CSV"),
        ("a,b\n1,2\n", "no column Modelname"),
        (",".join(table.REQUIRED_COLUMNS) + "\n", "no runs in it"),
        (
            ",".join(table.REQUIRED_COLUMNS) + "\n" + ",".join("x" * 8) + "\n",
            "holds something else than numbers",
        ),
    ],
)
def test_a_wrong_csv_is_one_line(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=part):
        table.read(tmp_path / "x.csv")


def test_tables_with_gaps_are_read_as_far_as_they_go(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = pd.read_csv(published)
    path = tmp_path / "x.csv"
    theirs.assign(test_accuracy_best_val_acc=86.9).to_csv(path)
    with pytest.raises(UserError, match="expected shares from 0 to 1"):
        table.read(path)
    theirs.drop(columns="val_accuracy").to_csv(path)
    assert table.rank_column(table.read(path), None) == "test_accuracy_best_val_acc"
    gaps = theirs.copy()
    gaps.loc[gaps["Modelname"] == "cnn", "test_accuracy_best_val_acc"] = np.nan
    gaps.to_csv(path)
    assert set(table.read(path)["Modelname"]) == {"resnet", "vit"}
    assert "left out 288 rows" in capsys.readouterr().err
