"""Reading the table of runs: validation, missing columns and values, aliases."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.common.errors import UserError
from src.report import table


def test_rank_drops_aliases() -> None:
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
def test_invalid_csv_gives_one_line_error(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=part):
        table.read(tmp_path / "x.csv")


def test_table_with_missing_values_is_read_partially(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published_table = pd.read_csv(published)
    path = tmp_path / "x.csv"
    published_table.assign(test_accuracy_best_val_acc=86.9).to_csv(path)
    with pytest.raises(UserError, match="expected shares from 0 to 1"):
        table.read(path)
    published_table.drop(columns="val_accuracy").to_csv(path)
    assert table.rank_column(table.read(path), None) == "test_accuracy_best_val_acc"
    with_gaps = published_table.copy()
    with_gaps.loc[with_gaps["Modelname"] == "cnn", "test_accuracy_best_val_acc"] = np.nan
    with_gaps.to_csv(path)
    assert set(table.read(path)["Modelname"]) == {"resnet", "vit"}
    assert "left out 288 rows" in capsys.readouterr().err


@pytest.mark.parametrize("run_id", ["1234567890", "12e4567890", "0000000012"])
def test_ids_of_digits_only_are_read_as_text(published: Path, tmp_path: Path, run_id: str) -> None:
    ids = ("run_id", "alias_of", "config_id", "data_digest", "git_commit")
    path = tmp_path / "x.csv"
    rows = pd.read_csv(published, index_col=0).head(3).assign(**dict.fromkeys(ids, run_id))
    rows.to_csv(path, index=False)
    for runs in (table.read(path), table.of_folders(rows, tmp_path)):
        for name in ids:
            assert runs[name].tolist() == [run_id] * 3
        assert table.run_ids(runs) == [run_id] * 3
