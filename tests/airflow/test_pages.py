"""The page in Airflow as somebody with a browser sees it: Chromium, Airflow's own user interface, a real runner.

AIR_EXECUTOR_SCREENSHOTS=1 writes the pictures of the documentation to docs/images.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect, sync_playwright

from air_executor import model, runners
from air_executor.client import AirExecutorClient
from air_executor.paths import Home
from air_executor.slurm import condition, record
from tests.airflow import databases, rest, stack, waiting

pytestmark = databases.ON_POSTGRES

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PATIENCE = 20_000
"""Milliseconds: a busy machine."""


@pytest.fixture
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "these tests need Chromium: apt install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, shared_airflow: stack.Stack) -> Iterator[Page]:
    """A window on Airflow; whatever a script on it complains of is a failure."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB", color_scheme="light")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(shared_airflow.environment["AIRFLOW__API__BASE_URL"])
    yield page
    assert errors == []


def test_a_running_job_is_watched_and_cancelled_and_a_runner_drained(shared_airflow: stack.Stack, page: Page) -> None:
    airflow = shared_airflow
    airflow.use_scheduler()
    page.get_by_role("link", name="Air-Executor").click()
    frame = page.frame_locator("iframe[title='Air-Executor']")
    shown(frame.get_by_role("heading", name="Overview"))
    shown(frame.locator(".state", has_text="alive").first)
    drain_and_resume(frame)
    frame.get_by_role("link", name="Jobs", exact=True).click()
    shown(frame.get_by_role("heading", name="Jobs"))

    run = airflow.rest.trigger("pages")
    name = appears(airflow, run, frame)
    silence(page, frame)
    frame.get_by_role("link", name=name, exact=True).click()
    shown(frame.locator("h1 .state", has_text="working"))
    expect(page).to_have_url(re.compile(f"/plugin/air-executor/air-executor/job/{name}$"), timeout=PATIENCE)
    follow_log(airflow, run, frame)
    theme(page, frame)
    answers_of_others(page, frame)

    cancel(frame)
    shown(frame.locator("h1 .state", has_text="cancelled"))
    shown(frame.get_by_text("airflow user").first)
    done = waiting.until(lambda: airflow.rest.states(run)["talks"] in rest.FINISHED, "Airflow to know", 60)
    assert done and airflow.rest.states(run)["talks"] == "failed"

    page.go_back()
    shown(frame.get_by_role("heading", name="Jobs"))
    page.goto(f"{base(airflow)}/dags/{run.dag_id}/runs/{run.run_id}/tasks/talks/plugin/air-executor-jobs")
    frame.get_by_role("link", name=name, exact=True).click()
    frame.get_by_role("link", name=f"pages / talks / {run.run_id}").click()
    expect(page).to_have_url(re.compile(f"/dags/pages/runs/{run.run_id}/tasks/talks$"), timeout=PATIENCE)
    slurm(airflow, page, frame)
    if os.environ.get("AIR_EXECUTOR_SCREENSHOTS"):
        take_pictures(airflow, page, frame)


def base(airflow: stack.Stack) -> str:
    return airflow.environment["AIRFLOW__API__BASE_URL"]


def shown(what: Locator) -> None:
    expect(what).to_be_visible(timeout=PATIENCE)


def appears(airflow: stack.Stack, run: rest.Run, frame: FrameLocator) -> str:
    """The job of the run is listed as working by itself: the page is not touched."""
    waiting.until(lambda: airflow.marks(f"{run.run_id}-first"), "the task to run", 60, 0.02)
    began = time.monotonic()
    name = airflow.home.job_of(run, "talks").name
    shown(frame.locator("tr", has_text=name).locator(".state", has_text="working"))
    print(f"a running job was on the page after {time.monotonic() - began:.1f} s")
    return name


def silence(page: Page, frame: FrameLocator) -> None:
    """A server that does not answer is said to be one, until it does."""
    page.route("**/air-executor/api/**", lambda route: route.abort())
    shown(frame.get_by_text("the api-server does not answer"))
    page.unroute("**/air-executor/api/**")
    expect(frame.get_by_text("the api-server does not answer")).to_be_hidden(timeout=PATIENCE)


def follow_log(airflow: stack.Stack, run: rest.Run, frame: FrameLocator) -> None:
    log = frame.locator(".log pre")
    expect(log).to_contain_text("the first line", timeout=PATIENCE)
    expect(log).not_to_contain_text("the second line")
    airflow.release(f"{run.run_id}-first")
    expect(log).to_contain_text("the second line", timeout=PATIENCE)


def answers_of_others(page: Page, frame: FrameLocator) -> None:
    """A proxy that answers in the server's name is noticed, and forgotten when that is over."""
    notice = frame.locator("#notice")
    page.route("**/air-executor/api/**", lambda route: route.fulfill(body="<p>Sorry</p>", content_type="text/html"))
    expect(notice).to_contain_text("what is shown may be old", timeout=PATIENCE)
    page.unroute("**/air-executor/api/**")
    expect(notice).to_be_empty(timeout=PATIENCE)


def cancel(frame: FrameLocator) -> None:
    frame.get_by_role("button", name="Cancel the job").click()
    dialog = frame.get_by_role("dialog")
    dialog.get_by_label("Why").fill("<b>enough</b>")
    dialog.get_by_role("button", name="Cancel the job").click()
    shown(frame.get_by_text("<b>enough</b>").first)


def drain_and_resume(frame: FrameLocator) -> None:
    for action, state in (("Drain", "draining"), ("Resume", "alive")):
        frame.get_by_role("button", name=action, exact=True).first.click()
        frame.get_by_role("dialog").get_by_role("button", name=action).click()
        shown(frame.get_by_role("table").first.locator(".state", has_text=state))


def theme(page: Page, frame: FrameLocator) -> None:
    """Light or dark as Airflow around it, also when that changes."""
    document = frame.locator("html")
    expect(document).to_have_attribute("data-theme", "light")
    page.evaluate("document.documentElement.classList.replace('light', 'dark')")
    expect(document).to_have_attribute("data-theme", "dark")
    expect(frame.locator("body")).to_have_css("background-color", "rgb(9, 9, 11)")
    page.evaluate("document.documentElement.classList.replace('dark', 'light')")
    expect(document).to_have_attribute("data-theme", "light")


def slurm(airflow: stack.Stack, page: Page, frame: FrameLocator) -> None:
    """What a runner notes of Slurm, and what is noted of a job there, without a Slurm."""
    home, at, stuck = Home(airflow.home.path), model.now(), "its partition is down (PartitionDown)"
    AirExecutorClient(home.root).create_job("far", [{"command": "true"}], queue="far", slurm={"partition": "gpu"})
    noted = record.Record(1, "far.0123456789abcdef", at, id="4711", state="PENDING", reason="PartitionDown")
    record.write(home.job("far"), noted, durable=False)
    runner = next(each for each in runners.alive_runners(home) if not each.draining)
    pilot = condition.Pilot("pilot-of-far", "far", "4712", "RUNNING", "n1")
    told = condition.Condition(runner.id, at, trouble="no answer", trouble_since=at, pilots=(pilot,))
    condition.write(home, replace(told, states={"PENDING": 1}, reasons={"PartitionDown": 1}, held_on=1))
    try:
        page.goto(f"{base(airflow)}/plugin/air-executor/air-executor/")
        shown(frame.get_by_role("heading", name="Slurm"))
        row = frame.locator("tr", has_text="no, since")
        for text in (stuck, "does not pass by waiting", "1 over but held"):
            expect(row).to_contain_text(text, timeout=PATIENCE)
        shown(frame.locator("tr", has_text="pilot-of-far"))
        page.goto(f"{base(airflow)}/plugin/air-executor/air-executor/job/far")
        shown(frame.get_by_text(f"job 4711, PENDING: {stuck}"))
        shown(frame.get_by_text("partition=gpu"))
    finally:
        condition.remove(home, runner.id)
        AirExecutorClient(home.root).cancel("far")


def take_pictures(airflow: stack.Stack, page: Page, frame: FrameLocator) -> None:
    """Of a job that people can make sense of, in both themes."""
    job = "nightly-report"
    parts = [f"count-{region}" for region in ("africa", "america", "asia", "europe")]
    tasks = [
        {"id": "fetch", "command": "sh", "args": ["-c", "for n in 1 2 3; do echo page $n of 3; sleep 0.3; done"]},
        *({"id": each, "command": "sleep", "args": [f"{0.4 + 0.2 * n}"]} for n, each in enumerate(parts)),
        {"id": "join", "command": "sh", "args": ["-c", "sleep 0.4; echo 4 regions, 1,204 orders"]},
        {"id": "publish", "command": "sh", "args": ["-c", "echo the printer is out of paper; exit 3"]},
    ]
    needs = {**{each: ["fetch"] for each in parts}, "join": parts, "publish": ["join"]}
    tasks = [{**task, "dependencies": needs.get(str(task["id"]), [])} for task in tasks]
    client = AirExecutorClient(airflow.home.path)
    client.create_job("import", [{"command": "sleep", "args": ["60"]}])
    client.create_job(job, tasks, labels={"team": "sales"}, max_parallel=4)
    waiting.until(lambda: client.get_job(job).state.terminal, "the job to end", 60)
    IMAGES.mkdir(exist_ok=True)
    for address, sign in (("", job), ("jobs", job), ("history", "Time to run"), (f"job/{job}", "the printer")):
        page.goto(f"{base(airflow)}/plugin/air-executor/air-executor/{address}")
        shown(frame.locator("main").get_by_text(sign).first)
        picture(page, address.partition("/")[0] or "overview")
    page.evaluate("document.documentElement.classList.replace('light', 'dark')")
    expect(frame.locator("html")).to_have_attribute("data-theme", "dark")
    picture(page, "job-dark")
    client.cancel("import")


def picture(page: Page, name: str) -> None:
    page.screenshot(path=IMAGES / f"{name}.png", scale="css")
