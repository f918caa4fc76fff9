"""Tests of tests/conftest.py."""

import pytest

from tests.conftest import skip_or_fail


def test_tests_of_a_file_share_an_xdist_group(request: pytest.FixtureRequest) -> None:
    """Otherwise each xdist worker would create the session fixtures, such as a cluster."""
    grouped = request.config.getoption("loadgroup", False)
    assert request.node.nodeid.endswith("@tests/test_conftest.py") == grouped


def test_skip_or_fail_skips_locally_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs a thing"):
        skip_or_fail("needs a thing")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="needs a thing"):
        skip_or_fail("needs a thing")
