"""The example pipelines come into a home that has none, and into no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor import pipelines as core
from air_executor import store
from air_executor.paths import Home

ROOT = Path(__file__).parents[2]


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Callable[[], None], Home]:
    """What start-dev.sh does, for a checkout in `tmp_path`."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from dev import pipelines
    from dev.checkout import Checkout

    (tmp_path / "examples").symlink_to(ROOT / "examples")
    checkout = Checkout(tmp_path)
    store.ensure_home(Home(checkout.home))
    return lambda: pipelines.offer(checkout), Home(checkout.home)


def test_a_fresh_home_has_the_examples(offer: tuple[Callable[[], None], Home]) -> None:
    copy, home = offer
    copy()
    assert [pipeline.name for pipeline in core.find_all(home)] == ["nightly"]
    core.load(home, "nightly").check()


def test_what_somebody_wrote_is_left_alone(offer: tuple[Callable[[], None], Home]) -> None:
    copy, home = offer
    (home.pipelines / "mine.toml").write_text("")
    copy()
    assert [path.name for path in home.pipelines.iterdir()] == ["mine.toml"]
