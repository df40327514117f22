"""Where a benchmark works: in a directory that goes with it, or in one that somebody chose and wants to keep."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def directory(chosen: Path | None) -> Iterator[Path]:
    """The chosen one, which must not exist yet; else a temporary one."""
    if chosen is not None:
        chosen.mkdir(parents=True)
        yield chosen.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="air-bench-") as temporary:
        yield Path(temporary)
