"""Numbers of the charts compared with pandas, and what the charts draw."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from src.common.errors import UserError
from src.common.result_values import TEST_ACCURACY
from src.report import commands, export_tables, table
from src.report.charts import (
    importance,
    main_effects,
    overall,
    pairs,
    parallel_coordinates,
    scatter,
    top_k,
)
from src.report.charts.figure import save, save_all
from src.report.charts.importance import Importance, importances
from src.report.charts.main_effects import effects_by_model
from src.report.charts.parallel_coordinates import parallel_axes
from src.report.page.render import write_page
from src.report.report_data import ReportData, TableOptions
from src.report.settings import HYPERPARAMETERS
from src.runs.run_folder import State
from tests.report.synthetic_sweep import table_of_grid

CONSTANT = {"augmentation": True, "scheduler": "step", "learning_rate": 0.1}
ONE_SETTING = {"scheduler": "step", "learning_rate": 0.1}


def test_top_k_equals_nlargest_of_rank_column(published: Path) -> None:
    runs = table.read(published)
    assert not [name for name in runs if "Unnamed" in str(name)]
    for rank_by, column in [
        (None, "val_accuracy"),
        ("test_accuracy", "test_accuracy_best_val_acc"),
    ]:
        assert table.rank_column(runs, rank_by) == column
        top = top_k.top_k(runs, "cnn", 5, column)
        expected = runs[runs["Modelname"] == "cnn"].nlargest(5, column)
        assert [b.accuracy for b in top.runs] == expected["test_accuracy_best_val_acc"].tolist()
        per_class = expected["test_per_class_accuracy_best_val_acc"].tolist()
        assert [b.per_class_accuracy for b in top.runs] == per_class
        assert top.candidates == 288
    lowest = top_k.top_k(runs, "vit", 1, table.rank_column(runs, "val_loss")).runs[0]
    assert lowest.row["val_loss"] == runs[runs["Modelname"] == "vit"]["val_loss"].min()


def test_overall_has_best_run_of_each_architecture(published: Path) -> None:
    runs = table.read(published)
    bars = overall.best_of_each(runs, "val_accuracy")
    values = [bar.row["val_accuracy"] for bar in bars]
    assert values == sorted(runs.groupby("Modelname")["val_accuracy"].max(), reverse=True)


@pytest.mark.parametrize(
    ("lows", "start"), [([0.86, 0.85], 0.8), ([0.1, 0.9], 0), ([0.31], 0.25), ([0.999], 0.9)]
)
def test_axis_starts_at_round_number_below_all_bars(lows: list[float], start: float) -> None:
    assert top_k.axis_start(lows) == pytest.approx(start)
    assert top_k.axis_start(lows) < min(lows)


def test_top_k_chart_shows_accuracies_and_is_reproducible(published: Path, tmp_path: Path) -> None:
    top = top_k.top_k(table.read(published), "resnet", 5, "val_accuracy")
    png, svg = save(top_k.draw(top, "a note"), tmp_path / "top_k")
    text = svg.read_text()
    for bar in top.runs:
        assert f"{bar.accuracy:.2%}" in text
        assert f"{bar.per_class_accuracy:.2%}" in text
    assert "resnet: the 5 best of 288 runs" in text
    assert "a note" in text
    pixels = np.asarray(Image.open(png).convert("L"))
    assert pixels.shape[1] > 1000
    assert pixels.std() > 20
    first = svg.read_bytes(), png.read_bytes()
    save(top_k.draw(top, "a note"), tmp_path / "top_k")
    assert (svg.read_bytes(), png.read_bytes()) == first


def effects_of(report: ReportData) -> pd.DataFrame:
    return export_tables.effects_table(effects_by_model(report), report.rank_column)


def test_effects_table_equals_groupby_means_of_unpruned_runs(published: Path) -> None:
    runs = table.read(published).assign(alias_of=None, stop_reason="completed")
    runs.loc[runs["scheduler"] == "cosine", "alias_of"] = "another"  # aliases count in means
    runs.loc[runs.index[::7], "stop_reason"] = "pruned"
    effects = effects_of(ReportData(runs)).set_index(["setting", "value", "model"])
    unpruned = runs[runs["stop_reason"] != "pruned"]
    for name in ("scheduler", "learning_rate"):
        groups = unpruned.groupby([name, "Modelname"])["val_accuracy"]
        for (value, model), values in groups:
            label = f"{value:g}" if isinstance(value, float) else str(value)
            effect = effects.xs((name, label, str(model)))
            assert effect["runs"] == len(values)
            found = (effect["mean_val_accuracy"], effect["best_val_accuracy"])
            assert found == pytest.approx((values.mean(), values.max()))
    assert set(effects.index.get_level_values("setting")) == set(HYPERPARAMETERS)
    by_loss = effects_of(ReportData(runs, rank_by="val_loss"))
    lowest = by_loss.set_index(["setting", "value", "model"])["best_val_loss"]
    assert lowest.loc["augmentation", "on", "vit"] == pytest.approx(
        unpruned[(unpruned["Modelname"] == "vit") & unpruned["augmentation"]]["val_loss"].min()
    )


def test_main_effects_ignore_missing_values() -> None:
    runs = table_of_grid(lambda rate, schedule, augmented: 0.5 + rate + 0.1 * augmented)
    runs.loc[0, "best_val_accuracy"] = np.nan
    found = {e.setting.name: e for e in main_effects.main_effects(runs, "cnn", "best_val_accuracy")}
    assert sorted(found) == ["augmentation", "learning_rate", "scheduler"]
    rate = found["learning_rate"]
    assert rate.setting.labels == ["0.001", "0.01", "0.1"]
    assert rate.means[:2] == pytest.approx((0.551, 0.56))
    assert rate.best == pytest.approx((0.601, 0.61, 0.7))
    assert rate.runs == (4, 4, 3)
    lower = main_effects.main_effects(runs.assign(val_loss=runs[TEST_ACCURACY]), "cnn", "val_loss")
    assert {e.setting.name: e.best[0] for e in lower}["learning_rate"] == pytest.approx(0.501)


def test_axis_of_several_architectures_is_sorted() -> None:
    """Whichever of them comes first, and whatever it has tried."""
    runs = table_of_grid(lambda rate, schedule, augmented: 0.5 + rate)
    low = runs[runs["learning_rate"] < 0.1]
    vit = runs[runs["learning_rate"] != 0.01].assign(Modelname="vit")
    figure = main_effects.figure(ReportData(pd.concat([vit, low], ignore_index=True)))
    assert figure
    [rates] = [axes for axes in figure.axes if axes.get_title() == "learning rate"]
    assert [tick.get_text() for tick in rates.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    [of_vit, of_cnn] = [np.asarray(line.get_xdata()).tolist() for line in rates.get_lines()]
    assert (of_vit, of_cnn) == ([0, 2], [0, 1])


def test_pair_means_are_nan_for_untried_combinations() -> None:
    runs = table_of_grid(lambda rate, schedule, augmented: rate + 0.1 * augmented)
    runs = runs[(runs["learning_rate"] != 0.1) | runs["augmentation"]]
    found = pairs.pair_means(runs, "cnn", TEST_ACCURACY)
    names = [(pair.row_setting.name, pair.column_setting.name) for pair in found]
    assert ("augmentation", "learning_rate") in names
    assert len(names) == 3
    means = found[names.index(("augmentation", "learning_rate"))].means
    assert means.isna().loc["off", "0.1"]
    assert means.loc["on", "0.1"] == pytest.approx(0.2)


def test_importance_ranks_most_influential_hyperparameter_first(report: ReportData) -> None:
    found = importance.importance(report.runs, "vit", "best_val_accuracy")
    assert next(iter(found.shares)) == "learning_rate"
    assert sum(found.shares.values()) == pytest.approx(1)
    pruned = table.is_pruned(report.runs) & (report.runs["Modelname"] == "vit")
    assert found.runs == (report.runs["Modelname"] == "vit").sum() - pruned.sum()
    again = importance.importance(report.runs, "vit", "best_val_accuracy")
    assert again == found
    three_runs = report.runs[report.runs["Modelname"] == "vit"].head(3)
    assert "only" in importance.importance(three_runs, "vit", "best_val_accuracy").reason
    flat = report.runs.assign(best_val_accuracy=0.5)
    assert importance.importance(flat, "vit", "best_val_accuracy").reason == (
        "all runs have the same best validation accuracy"
    )


def save_effect_charts(report: ReportData, folder: Path) -> list[Path]:
    """Save all charts of hyperparameter effects and return their files."""
    return [
        *save_all([("effects", main_effects.figure(report))], folder),
        *save_all(pairs.figures(report), folder),
        *save_all([("importance", importance.figure(report))], folder),
        *save_all([("parallel", parallel_coordinates.figure(report))], folder),
        *save_all([("scatter", scatter.figure(report))], folder),
    ]


def test_effect_charts_are_written_and_not_blank(small_report: ReportData, tmp_path: Path) -> None:
    written = save_effect_charts(small_report, tmp_path)
    models = ("resnet", "cnn", "vit")
    stems = {
        "effects",
        "importance",
        "parallel",
        "scatter",
        *(f"{model}_pairs" for model in models),
    }
    assert {path.stem for path in written} == stems
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width > 1000
                assert len(image.convert("L").getcolors() or range(999)) > 20
        else:
            text = path.read_text()
            assert "accuracy" in text
    assert "learning rate" in (tmp_path / "importance.svg").read_text()


def test_parallel_coordinates_positions_match_table(small_report: ReportData) -> None:
    rows = small_report.runs
    of_table = {axis.title: axis for axis in parallel_axes(rows, small_report.rank_column)}
    rates = of_table["learning rate"]
    labels = [dict(rates.ticks)[place] for place in rates.positions]
    assert labels == [f"{rate:g}" for rate in rows["learning_rate"]]
    measure = of_table["best validation accuracy"]
    values = rows["best_val_accuracy"]
    spread = values.max() - values.min()
    assert measure.positions == pytest.approx(((values - values.min()) / spread).to_numpy())
    assert measure.ticks == ((0, f"{values.min():.1%}"), (1, f"{values.max():.1%}"))


def test_continuous_learning_rate_has_log_axis(small_report: ReportData) -> None:
    rows = small_report.runs.assign(learning_rate=np.geomspace(1e-5, 1e-1, len(small_report.runs)))
    rates = next(
        axis
        for axis in parallel_axes(rows, small_report.rank_column)
        if axis.title == "learning rate"
    )
    assert rates.positions == pytest.approx(np.linspace(0, 1, len(rows)))
    assert rates.ticks == ((0, "1e-05"), (1, "0.1"))
    seeds = rows.assign(seed=range(1000, 1000 + len(rows)))
    axes = {axis.title: axis for axis in parallel_axes(seeds, small_report.rank_column)}
    assert axes["seed"].ticks == ((0, "1000"), (1, str(999 + len(rows))))
    with_missing = rows["learning_rate"].where(rows.index != rows.index[3])
    with_gap = next(
        a
        for a in parallel_axes(rows.assign(learning_rate=with_missing), small_report.rank_column)
        if not a.is_factor
    )
    assert np.isnan(with_gap.positions[3])
    assert np.isfinite(np.delete(with_gap.positions, 3)).all()


def test_scatter_points_match_table(small_report: ReportData) -> None:
    figure = scatter.figure(small_report)
    assert figure
    points = np.concatenate([np.asarray(c.get_offsets()) for c in figure.axes[0].collections])
    expected = small_report.runs[["best_val_accuracy", "test_accuracy_best_val_acc"]].to_numpy()
    assert sorted(map(tuple, points)) == sorted(map(tuple, expected))


def test_scatter_falls_back_to_last_validation_accuracy(small_report: ReportData) -> None:
    unknown = small_report.runs.assign(best_val_accuracy=np.nan)
    for runs, across in (
        (small_report.runs, "best validation accuracy"),
        (unknown, "validation accuracy of the last epoch"),
    ):
        figure = scatter.figure(replace(small_report, runs=runs))
        assert figure
        assert figure.axes[0].get_xlabel() == across
    none = unknown.assign(val_accuracy=np.nan)
    assert scatter.figure(replace(small_report, runs=none)) is None


def test_architecture_has_same_colour_in_all_charts(small_report: ReportData) -> None:
    """The colour is the same if the chart shows a single architecture."""
    of_first = small_report.runs["Modelname"] == small_report.models[0]
    levels = ("augmentation", "gamma", "learning_rate", "scheduler", "weight_decay")
    constant = {
        name: small_report.runs[name].mask(of_first, small_report.runs[name].iloc[0])
        for name in levels
    }
    runs = small_report.runs.assign(**constant)
    colours: dict[str, set[str]] = {}
    for report in (
        replace(small_report, runs=runs),
        *(replace(small_report, model=model) for model in small_report.models),
    ):
        for figure in (
            main_effects.figure(report),
            importance.figure(report),
            parallel_coordinates.figure(report),
            scatter.figure(report),
        ):
            assert figure
            [legend] = [
                *figure.legends,
                *filter(None, (axes.get_legend() for axes in figure.axes)),
            ]
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
                assert handle
                rgba = handle.get_color() if isinstance(handle, Line2D) else handle.get_facecolor()  # type: ignore[attr-defined]
                [one, *_] = to_rgba_array(rgba)
                colours.setdefault(text.get_text(), set()).add(to_hex(one))
    assert {len(colours[model]) for model in small_report.models} == {1}
    assert len(set.union(*(colours[model] for model in small_report.models))) == len(
        small_report.models
    )


def test_charts_are_none_for_a_single_run(small_report: ReportData, tmp_path: Path) -> None:
    single_run = replace(small_report, runs=small_report.runs.head(1))
    assert main_effects.figure(single_run) is None
    assert list(pairs.figures(single_run)) == []
    assert importance.figure(single_run) is None
    assert parallel_coordinates.figure(single_run) is None
    model = small_report.models[0]
    of_model = small_report.runs["Modelname"] == model
    accuracies = small_report.runs["best_val_accuracy"].mask(of_model)
    unvalued = small_report.runs.assign(best_val_accuracy=accuracies)
    assert parallel_coordinates.figure(replace(small_report, runs=unvalued, model=model)) is None
    unranked = single_run.runs.drop(columns=["best_val_accuracy", "val_accuracy"], errors="ignore")
    assert save_effect_charts(replace(single_run, runs=unranked), tmp_path) == []
    assert importances(single_run) == (
        Importance(
            small_report.runs.iloc[0]["Modelname"], 1, {}, "only 1 finished run; it needs 8"
        ),
    )


def with_recipe(model: str, images: int, **columns: Any) -> pd.DataFrame:
    """Return the runs of a grid, and of a recipe with other epochs and batches beside it."""
    grid = table_of_grid(lambda rate, schedule, augmented: 0.5 + rate, Modelname=model)
    grid = grid.assign(num_epochs=20, batch_size=256, test_images=images)
    recipe = grid.head(1).assign(num_epochs=100, batch_size=64)
    return pd.concat([grid, recipe], ignore_index=True).assign(**columns)


def test_footnotes_count_the_runs_that_are_drawn() -> None:
    """And not those of other architectures, or of architectures that cannot be drawn."""
    unranked = with_recipe("vit", 500, best_val_accuracy=np.nan, stop_reason="pruned")
    runs = pd.concat([with_recipe("cnn", 1000), unranked], ignore_index=True)
    states = {"cnn": Counter({State.FAILED: 2}), "vit": Counter({State.PENDING: 3})}
    every = ReportData(runs, states)
    assert "Not included: 2 runs" in every.apart_note()
    for draw in (main_effects.figure, importance.figure):  # vit has no ranked run
        words = text_of(draw(every))
        assert "Not included: 1 run with settings outside the sweep." in words
        assert "pending" not in words
    one = replace(every, model="cnn")
    [(_, figure)] = overall.figures(one)
    assert "95 % Wilson intervals (1,000 test images)" in text_of(figure)
    assert "Not shown: 2 failed." in text_of(figure)
    assert "pruned" not in text_of(figure)
    assert one.summary().startswith("13 finished runs, 13 different trainings")
    assert [run.row["Modelname"] for run in overall.best_runs(replace(one, model="cnn"))] == ["cnn"]


def test_several_numbers_of_test_images_are_told() -> None:
    runs = pd.concat([with_recipe("cnn", 1000), with_recipe("vit", 500)], ignore_index=True)
    assert "(500 to 1,000 test images)" in ReportData(runs).accuracy_note()
    assert "(500 test images)" in ReportData(runs).accuracy_note("vit")
    only_cnn = table.records(runs[runs["Modelname"] == "cnn"])
    assert "(1,000 test images)" in ReportData(runs).accuracy_note(drawn=only_cnn)


def text_of(figure: Figure | None) -> str:
    assert figure
    return " ".join(" ".join(text.get_text().split()) for text in figure.findobj(Text))


def test_seconds_are_called_training_time_wherever_people_read_them(tmp_path: Path) -> None:
    runs = table_of_grid(lambda rate, schedule, augmented: 0.5 + rate)
    runs = runs.assign(train_seconds=range(12), config_id=["a", "a", *"cdefghijkl"], seed=range(12))
    report = ReportData(runs, rank_by="train_seconds")
    assert report.summary().split("ranked by ")[1].startswith("training time (s).")
    for _, figure in (*top_k.figures(report), *overall.figures(report)):
        assert "by training time (s)" in text_of(figure)
    for draw in (main_effects.figure, importance.figure):
        assert "the training time (s)" in text_of(draw(report))
    export_tables.write_tables(report, tmp_path)
    assert "mean of training time (s)" in (tmp_path / "effects.md").read_text()
    page = write_page(report, tmp_path).read_text()
    assert "training time in hours" in page
    assert ">0.5 s<" in page, "the mean of two seeds"
    written = [path.read_text() for path in tmp_path.glob("*.md")]
    assert not re.search("train.seconds", "".join(written))


@pytest.mark.parametrize(
    ("name", "columns", "words"),
    [
        ("data-sets", {}, "the table has no column dataset"),
        ("data-sets", {"dataset": "mnist"}, "the table has one data set"),
        ("top-k", {"train_loss": np.nan}, "no run has a train loss"),
        (
            "effects",
            {"stop_reason": "pruned"},
            "cnn: 0 finished configurations; expected at least 4",
        ),
        (
            "effects",
            CONSTANT,
            "cnn: its runs differ in no setting; expected a setting with 2 to 12",
        ),
        (
            "effects",
            {**CONSTANT, "batch_size": range(1, 25)},
            "differ in no setting besides batch size, of which nearly every run has its own",
        ),
        ("pairs", ONE_SETTING, "differ in augmentation only; expected two settings with 2 to 12"),
        ("importance", {"stop_reason": "pruned"}, "cnn: only 0 finished runs; it needs 8"),
        ("importance", CONSTANT, "cnn: its runs differ in no setting"),
        ("parallel", CONSTANT, "the runs differ in no setting; expected two runs"),
        ("parallel", {"train_loss": np.nan}, "no run has a train loss"),
        ("scatter", {"best_val_accuracy": np.nan}, "the table has no validation accuracies"),
        ("confirmed", {}, "expected run folders, with --runs"),
    ],
)
def test_a_chart_that_cannot_be_drawn_gives_its_own_reason(
    tmp_path: Path, name: str, columns: dict[str, Any], words: str
) -> None:
    runs = table_of_grid(lambda rate, schedule, augmented: 0.5 + rate + augmented / 10)
    runs = pd.concat([runs, runs], ignore_index=True).assign(**columns)
    rank_by = "train_loss" if "train_loss" in columns else None
    report = ReportData(runs, rank_by=rank_by)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "load_report", lambda options: report)
        with pytest.raises(UserError) as raised:
            commands.chart(TableOptions(out=tmp_path), name=name)
    assert str(raised.value).startswith(f"{name}: nothing to draw: ")
    assert words in str(raised.value)
