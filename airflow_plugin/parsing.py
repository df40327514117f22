"""The DAG file of a task, parsed before Airflow asks for it, and given to Airflow when it does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.dag_processing import dagbag


class DagFile:
    """A file as the process of a task parses it.

    Args:
        path: of the file, within the bundle.
    """

    def __init__(self, bundle: Any, path: str | os.PathLike[str]) -> None:
        self._wanted = {
            "dag_folder": os.fspath(Path(bundle.path, path)),
            "safe_mode": False,
            "load_op_links": False,
            "bundle_path": bundle.path,
            "bundle_name": bundle.name,
        }

    def parse(self) -> dagbag.BundleDagBag:
        """All it holds."""
        return dagbag.BundleDagBag(**self._wanted)

    def give(self, bag: dagbag.BundleDagBag) -> None:
        """Once Airflow wants to parse exactly this file, in this process or a fork of it, let it have that."""
        parse = dagbag.BundleDagBag

        def find(*arguments: Any, **keywords: Any) -> Any:
            if arguments or keywords != self._wanted:
                return parse(*arguments, **keywords)
            dagbag.BundleDagBag = parse  # type: ignore[misc]
            return bag

        dagbag.BundleDagBag = find  # type: ignore[assignment, misc]
