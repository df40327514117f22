"""The document is complete: whatever is sent, no answer comes that is not in it, and never a 500."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from air_executor import model, store
from air_executor.http.app import DOCUMENT
from tests.http.conftest import Api, serving
from tests.unit.conftest import finish

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
EXAMPLES = int(os.environ.get("AIR_EXECUTOR_FUZZ", "2"))
"""For each operation and mode. Two, always the same, so that a change that breaks nothing never fails; set the variable
to look for more, which are others each time."""
PIPELINE = """
description = "counts"
[params.day]
type = "string"
[params.limit]
type = "number"
default = 1.5
[environments.prod]
[[tasks]]
id = "count"
command = "count"
args = ["${day}", "${limit}"]
env = { SECRET = "hunter2" }
[[tasks]]
command = "tell"
dependencies = ["count"]
"""
RUNS = ("waits", "completed", "failed", "damaged", "no-tasks")
"""Runs that there are; a request is about one of them, or about what was made up."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(tmp_path_factory.mktemp("document") / "home") as api:
        (api.home.pipelines / "counts.toml").write_text(PIPELINE)
        (api.home.pipelines / "broken.toml").write_text("tasks = 1")
        for name in RUNS:
            store.submit(api.home, store.Submission(model.Job(name), [model.Task("true")]))
        api.home.job("completed").log("task-1").write_bytes(b"one\n\xff\xfe")
        finish(api.home, "completed")
        api.home.job("completed").result.write_text('{"task-1": NaN}')
        finish(api.home, "failed", model.JobState.FAILED, "command not found: /secret/hunter2")
        api.home.job("damaged").state.write_text("{")
        api.home.job("no-tasks").tasks.unlink()
        yield api


def test_the_document_names_no_answer_that_only_the_framework_knows(api: Api) -> None:
    document = api.http.get(DOCUMENT).json()
    assert "HTTPValidationError" not in str(document)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert path.endswith("/health") or operation["security"], (method, path)
            assert {"429", "503"} <= operation["responses"].keys(), (method, path)


def test_runs_that_are_damaged_are_told_as_such(api: Api) -> None:
    assert api.get("/runs/damaged").json()["state"] == "failed"
    for path in ("/runs/damaged/result", "/runs/completed/result"):
        answer = api.get(path)
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:air-executor:corrupt-file"), path
    assert api.get("/runs/failed").json()["reason"] == "command not found"
    assert api.get("/pipelines/broken").json()["problems"]
    told = api.get("/pipelines/counts").json()
    assert [each["default"] for each in told["parameters"]] == [None, 1.5]
    assert told["tasks"] == [{"id": "count", "dependencies": []}, {"id": None, "dependencies": ["count"]}]


def test_no_answer_is_missing_in_the_document(api: Api) -> None:
    schema = schemathesis.openapi.from_dict(api.http.get(DOCUMENT).json())
    schema.config.update(base_url=api.url)
    seen: Counter[int] = Counter()
    numbers = itertools.count()
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            seen += _try(api, operation, mode, numbers)
    assert {200, 204, 404, 422} <= seen.keys(), seen


def _try(api: Api, operation: Any, mode: GenerationMode, numbers: Iterator[int]) -> Counter[int]:
    """Which answers came."""
    seen: Counter[int] = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize="AIR_EXECUTOR_FUZZ" not in os.environ,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        _aim(case, next(numbers))
        answer = case.call(headers={"Authorization": f"Bearer {api.token('admin')}"}, timeout=30)
        seen[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        assert b"hunter2" not in answer.content and str(api.home.root).encode() not in answer.content

    try:
        call()
    except Unsatisfiable:  # nothing can be wrong with a request that takes nothing
        assert mode is GenerationMode.NEGATIVE
    return seen


def _aim(case: Any, number: int) -> None:
    """Mostly at what there is; and nobody waits for long."""
    for key, known in (("run", RUNS), ("task", ("task-1",)), ("pipeline", ("counts", "broken"))):
        if key in (case.path_parameters or {}) and number % 4:
            case.path_parameters[key] = known[number % len(known)]
    if case.operation.label == "POST /api/v1/runs" and isinstance(case.body, dict) and number % 2:
        for key in ("pipeline", "parameters", "environment", "slurm"):
            case.body.pop(key, None)
        case.body["tasks"] = [{"command": "true"}]
    if isinstance(case.query, dict):
        case.query.pop("follow", None)  # it would go on as long as the run
        if _is_long(case.query.get("wait")):
            case.query["wait"] = 0.01


def _is_long(wait: object) -> bool:
    if isinstance(wait, (list, tuple)):
        return any(map(_is_long, wait))
    try:
        return float(str(wait)) > 0.01
    except ValueError:
        return False
