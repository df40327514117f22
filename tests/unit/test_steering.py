"""Pauses, orders, and who is said to have steered: their files, without a runner that obeys."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import threading
from concurrent import futures
from pathlib import Path

import pytest

from air_executor import _files, audit, orders, pauses, processes, repair, runners, steering
from air_executor.errors import InvalidInputError, InvalidNameError, NotFoundError, RunnerError, SettingsError
from air_executor.paths import Home
from tests.unit.conftest import Submit
from tests.unit.test_repair import GONE
from tests.unit.test_runners import SELF, info

ME = processes.user()


def events(home: Home, **which: str) -> list[tuple[str, str, str]]:
    return [(each["what"], each["by"], each["why"]) for each in audit.latest(home, **which)]  # type: ignore[arg-type]


# --- Pauses ---


def test_a_pause_says_who_and_why_until_it_is_resumed(home: Home) -> None:
    assert pauses.pause(home, "heavy", why="a move")
    pause = pauses.read(home, "heavy")
    assert pause is not None and (pause.by, pause.why) == (ME, "a move")
    assert str(pause) == f"paused since {pause.at} by {ME}: a move"
    assert not pauses.pause(home, "heavy", by="another", why="else"), "the first counts"
    assert pauses.all_pauses(home) == {"heavy": pause} and pauses.names(home) == {"heavy"}
    assert pauses.resume(home, "heavy", by="ana")
    assert not pauses.resume(home, "heavy")
    assert pauses.read(home, "heavy") is None and pauses.names(home) == frozenset()
    assert events(home, queue="heavy") == [("pause", ME, "a move"), ("resume", "ana", "")]


def test_of_several_who_pause_at_once_one_does(home: Home) -> None:
    queues, together = [f"q{number}" for number in range(8)], threading.Barrier(3)

    def pause(by: str) -> list[tuple[str, str]]:
        together.wait(20)
        return [(queue, by) for queue in queues if pauses.pause(home, queue, by=by)]

    with futures.ThreadPoolExecutor(3) as pool:
        done = [each for found in pool.map(pause, ("ana", "ben", "eva")) for each in found]
    assert sorted(queue for queue, _ in done) == queues
    assert {(queue, pause.by) for queue, pause in pauses.all_pauses(home).items()} == set(done)
    assert {(each["queue"], each["by"]) for each in audit.latest(home)} == set(done)
    assert len(audit.latest(home)) == len(done)


@pytest.mark.parametrize("content", ["", "[]", '{"at": "yesterday", "by": "a", "why": ""}', '{"at": 1}'])
def test_a_damaged_pause_pauses_and_can_be_resumed(home: Home, content: str) -> None:
    home.paused.mkdir()
    home.pause("heavy").write_text(content)
    found = pauses.all_pauses(home)["heavy"]
    assert found.at is None and str(home.pause("heavy")) in found.why and "is damaged" in str(found)
    assert pauses.resume(home, "heavy") and pauses.names(home) == frozenset()


def test_a_directory_in_the_place_of_a_pause_is_kept_aside(home: Home) -> None:
    (home.pause("heavy") / "inside").mkdir(parents=True)
    assert pauses.names(home) == {"heavy"}
    assert pauses.resume(home, "heavy") and pauses.names(home) == frozenset()
    assert (home.paused / "heavy.json.damaged-1" / "inside").is_dir()


def test_what_is_no_pause_pauses_nothing(home: Home) -> None:
    home.paused.mkdir()
    for name in (".heavy.json.x.tmp", "heavy", "a b.json", ".json"):
        (home.paused / name).touch()
    assert pauses.names(home) == frozenset()


@pytest.mark.parametrize("queue", ["../x", "", "a b", "q" * 101])
def test_only_a_name_can_be_paused(home: Home, queue: str) -> None:
    for act in (pauses.pause, pauses.resume):
        with pytest.raises(InvalidNameError, match="the queue"):
            act(home, queue)
    assert not home.paused.exists() and events(home) == []


def test_reasons_have_an_end(home: Home) -> None:
    with pytest.raises(InvalidInputError, match="at most 1000 characters"):
        pauses.pause(home, "heavy", why="x" * 1001)
    assert pauses.names(home) == frozenset()


# --- Orders ---


def test_orders_come_in_their_order_and_once(home: Home) -> None:
    for slots in (1, 2):
        orders.give(home, "r", orders.Order(orders.SET, "ana", "why", process=SELF, changes={"slots": slots}))
    orders.give(home, "r", orders.Order("drain", "ana", process=SELF))
    orders.give(home, "r.x", orders.Order("stop", "ana", process=SELF))
    taken = [(order.action, order.by, dict(order.changes)) for order in orders.take(home, "r", SELF)]
    assert taken == [("set", "ana", {"slots": 1}), ("set", "ana", {"slots": 2}), ("drain", "ana", {})]
    assert [path.name for path in home.control.iterdir()] == ["r.x.stop"] and not home.steered.exists()


def test_an_order_for_the_runner_before_is_removed_and_not_obeyed(home: Home) -> None:
    orders.give(home, "r", orders.Order("stop", process=GONE))
    assert list(orders.take(home, "r", SELF)) == [] and list(home.control.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", '{"process": 1}', '{"process": {}}'])
def test_an_order_is_its_name_unless_it_has_to_say_what_to_change(home: Home, content: str) -> None:
    for name in ("r.drain", "r.set-1", "r.dance"):
        (home.control / name).write_text(content)
    assert list(orders.take(home, "r", SELF)) == [orders.Order("drain")]
    assert [path.name for path in home.control.iterdir()] == ["r.dance"]


def test_orders_go_with_their_runner_and_what_was_not_finished_with_its_writer(home: Home) -> None:
    runners.write(home, info("dead", GONE))
    orders.give(home, "dead", orders.Order("stop", process=GONE))
    runners.forget_dead(home, runners.observe(home))
    assert list(home.control.iterdir()) == []
    home.paused.mkdir()
    pid = os.fork()
    if pid == 0:  # dies in the middle of both
        for path in (home.pause("q"), home.control / "r.drain"):
            _files.write_new(_files.temporaries.replacement(path), b"")
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(list(home.paused.iterdir())) == len(list(home.control.iterdir())) == 1
    list(repair.repair(home))
    assert list(home.paused.iterdir()) == list(home.control.iterdir()) == []


# --- Setting ---


def test_setting_asks_a_living_runner(home: Home) -> None:
    runners.write(home, info("r"))
    changes = steering.set_runner(home, "r", slots="8", queues="a, b,a", by="ana", why="more")
    (order,) = orders.take(home, "r", SELF)
    assert changes == {"slots": 8, "queues": ("a", "b")}
    assert order == orders.Order("set", "ana", "more", process=SELF, changes={"slots": 8, "queues": ["a", "b"]})
    assert "config.toml decide at its next start" in steering.how_long(info("r"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give slots, queues, or both"),
        ({"slots": 0}, "slots must be more than 0, not 0"),
        ({"slots": "many"}, "slots must be a whole number, not 'many'"),
        ({"slots": True}, "slots must be a whole number"),
        ({"slots": 1.5}, "slots must be a whole number"),
        ({"queues": ""}, "queues must name at least one queue"),
        ({"queues": ["a", "../x"]}, "the queue '../x'"),
        ({"slots": 1, "why": "x" * 1001}, "why must be a text of at most"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(home: Home, changes: dict[str, object], message: str) -> None:
    runners.write(home, info("r"))
    with pytest.raises(InvalidInputError, match=message):
        steering.set_runner(home, "r", **changes)  # type: ignore[arg-type]
    assert list(home.control.iterdir()) == []


def test_only_what_is_there_can_be_set(home: Home) -> None:
    runners.write(home, info("dead", GONE))
    for name in ("dead", "nobody"):
        with pytest.raises(NotFoundError, match=name):
            steering.set_runner(home, name, slots=1)


def test_the_queues_of_airflows_runner_are_airflows(home: Home) -> None:
    runners.write(home, info("r", embedded=True))
    with pytest.raises(RunnerError, match=r"set \[air_executor\] queues"):
        steering.set_runner(home, "r", queues=["other"])
    assert list(home.control.iterdir()) == []
    steering.set_runner(home, "r", slots=1)
    assert "[air_executor] slots" in steering.how_long(info("r", embedded=True))


def test_which_queues_are_known(home: Home, submit: Submit) -> None:
    submit("a", queue="waits")
    pauses.pause(home, "paused")
    assert steering.known_queues(home, [info(queues=["served"])]) == ["paused", "served", "waits"]


def test_settings_of_a_runner_are_checked_without_its_flags_names() -> None:
    with pytest.raises(SettingsError, match=r"^slots must"):
        steering.check_changes(-1, None)


# --- Who did what ---


def test_the_log_has_an_end_and_lacks_nothing_of_late(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 2000)
    for number in range(100):
        audit.record_queue(home, "q", str(number), by="ana")
    sizes = [path.stat().st_size for path in (home.steering_log, home.steering_log_before)]
    assert max(sizes) < 2000 + 200 and sorted(path.name for path in home.logs.glob("steering*")) == [
        "steering.jsonl",
        "steering.jsonl.1",
    ]
    said = [each["what"] for each in audit.latest(home, most=1000)]
    assert said == [str(number) for number in range(100 - len(said), 100)] and len(said) > 20
    assert [each["what"] for each in audit.latest(home, queue="q", most=2)] == ["98", "99"]
    assert audit.latest(home, runner="q") == []


def write_many(root: Path, writer: int) -> None:
    audit.MAX_BYTES = 4000
    for number in range(50):
        audit.record_runner(Home(root), f"w{writer}", str(number), by="x" * 100)


def test_lines_of_several_writers_do_not_mix_though_the_file_is_put_aside(home: Home) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(home.root, number)) for number in range(3)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    lines = [line for path in home.logs.glob("steering.jsonl*") for line in path.read_text().splitlines()]
    assert all(json.loads(line)["by"] == "x" * 100 for line in lines) and 20 < len(lines) <= 150
    for number in range(3):
        found = [int(each["what"]) for each in audit.latest(home, runner=f"w{number}", most=100)]
        assert found == sorted(found)


def test_a_line_that_was_cut_off_spoils_no_other(home: Home) -> None:
    audit.record_queue(home, "q", "first", by="ana")
    with home.steering_log.open("a") as file:
        file.write('{"at": "2026')
    audit.record_queue(home, "q", "second", by="ana")
    assert [each["what"] for each in audit.latest(home)] == ["first", "second"]


def test_one_writes_though_another_never_lets_go(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LOCK_WAIT", 0.0)
    lock = _files.Lock(home.steering_lock)
    assert lock.acquire()
    audit.record_queue(home, "q", "pause", by="ana")
    assert events(home) == [("pause", "ana", "")]
    lock.release()


def test_a_deleted_directory_is_made_again(home: Home) -> None:
    home.logs.rmdir()
    assert audit.latest(home) == []
    audit.record_queue(home, "q", "pause", by="ana")
    assert events(home) == [("pause", "ana", "")]


def test_who_did_what_is_told_also_where_nobody_can_write(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    audit.record_queue(home, "q", "pause", by="ana")

    def refuse(path: Path) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(_files, "_open_lock", refuse)
    assert [each["by"] for each in audit.latest(home)] == ["ana"]
    with pytest.raises(OSError, match="Read-only"):
        audit.record_queue(home, "q", "resume", by="ana")
