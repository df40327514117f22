"""The example pipelines, which the example DAGs run, in the home."""

from __future__ import annotations

from air_executor import _files
from air_executor.paths import Home
from dev.checkout import Checkout


def offer(checkout: Checkout) -> None:
    """Copy them into a home that has no pipeline yet; what somebody wrote, changed or removed there is left alone."""
    folder = Home(checkout.home).pipelines
    if any(folder.iterdir()):
        return
    for example in sorted(checkout.pipelines.glob("*.toml")):
        _files.replace(folder / example.name, example.read_bytes())
