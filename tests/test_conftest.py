"""What the tests share."""

import pytest

from tests.conftest import lacking


def test_a_file_stays_in_one_process(request: pytest.FixtureRequest) -> None:
    """Or else its fixtures are made in all of them, and each builds a cluster."""
    grouped = request.config.getoption("loadgroup", False)
    assert request.node.nodeid.endswith("@tests/test_conftest.py") == grouped


def test_nothing_may_be_lacking_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs a thing"):
        lacking("needs a thing")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="needs a thing"):
        lacking("needs a thing")
