"""A race waits for results, drops what is behind, ends, and can be replayed."""

import numpy as np
import pytest

from src.comparison.race import alpha_of_round, run_race

BAD = [0.500, 0.501, 0.499, 0.500, 0.500]
GOOD = [0.900, 0.901, 0.899, 0.900, 0.900]
NEAR = [0.8995, 0.9005, 0.8995, 0.9000, 0.9000]


def test_race_waits_for_every_result_of_a_round() -> None:
    race = run_race({"a": GOOD[:2], "b": BAD[:1], "c": []}, 5)
    assert (race.remaining, race.waiting, race.next_round) == (("a", "b", "c"), ("b", "c"), 2)
    assert not race.is_over


def test_configuration_behind_drops_out_and_is_not_waited_for() -> None:
    race = run_race({"a": GOOD[:2], "b": BAD[:2], "c": NEAR[:2]}, 5)
    [dropped] = race.dropped
    assert (dropped.name, dropped.seeds, dropped.leader) == ("b", 2, "a")
    assert dropped.lead == pytest.approx(0.4)
    assert (race.waiting, race.next_round) == (("a", "c"), 3)


def test_race_ends_when_one_is_left() -> None:
    race = run_race({"a": GOOD[:2], "b": BAD[:2]}, 5)
    assert (race.remaining, race.outcome, race.waiting) == (("a",), "one is left", ())


def test_race_ends_when_seeds_are_used() -> None:
    race = run_race({"a": GOOD, "c": NEAR}, 5)
    assert race.remaining == ("a", "c")
    assert race.outcome == "all 5 seeds are used"


def test_race_ends_when_the_rest_are_equal_within_margin() -> None:
    results = {"a": GOOD[:3], "c": NEAR[:3]}
    assert not run_race(results, 5).is_over
    assert not run_race(results, 5, margin=0.0005).is_over
    assert run_race(results, 5, margin=0.02).outcome == "those left are equal within 2 points"


def test_further_results_do_not_change_what_was_decided() -> None:
    """Results that came in early, or of a configuration that has dropped out, count for nothing."""
    early = {"a": GOOD, "b": [*BAD[:2], 0.99, 0.99, 0.99], "c": NEAR}
    race = run_race(early, 5)
    assert [one.name for one in race.dropped] == ["b"]
    assert race == run_race({**early, "b": BAD[:2]}, 5)


def test_exhausted_configuration_is_compared_with_what_it_has() -> None:
    results = {"a": GOOD, "c": NEAR[:3]}
    assert run_race(results, 5).waiting == ("c",)
    assert run_race(results, 5, exhausted=["c"]).is_over


def test_single_configuration_wins_at_once() -> None:
    race = run_race({"a": GOOD[:2]}, 5)
    assert (race.remaining, race.outcome) == (("a",), "one is left")


def test_one_seed_decides_nothing() -> None:
    race = run_race({"a": [0.9], "b": [0.1]}, 1)
    assert (race.remaining, race.dropped, race.is_over) == (("a", "b"), (), True)


def test_alpha_is_shared_by_the_rounds() -> None:
    assert alpha_of_round(5) * 4 == pytest.approx(0.05)
    assert alpha_of_round(1) == 0.05


@pytest.mark.parametrize(("results", "seeds"), [({}, 5), ({"a": [0.5]}, 0)])
def test_race_needs_a_configuration_and_a_seed(results: dict[str, list[float]], seeds: int) -> None:
    with pytest.raises(ValueError, match="needs"):
        run_race(results, seeds)


def test_correlated_seeds_drop_sooner() -> None:
    random = np.random.default_rng(3)
    seed = random.normal(0, 0.05, 6)
    results = {
        name: (level + seed + random.normal(0, 0.001, 6)).tolist()
        for name, level in (("a", 0.9), ("b", 0.88), ("c", 0.86))
    }
    assert not run_race(results, 6).dropped
    assert {one.name for one in run_race(results, 6, same_seeds=True).dropped} == {"b", "c"}
