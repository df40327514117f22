"""Tables that fit, text that cannot take over the terminal, and options that are read as people write them."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor import model, settings
from air_executor.cli import arguments, output, show


def test_the_words_of_the_command_line_are_those_of_the_model() -> None:
    assert set(arguments.STATES) == {state.value for state in model.JobState}
    assert set(arguments.TRIGGERS) == {trigger.value for trigger in model.Trigger}
    assert set(arguments.ON_FAILURE) == {word.value for word in model.OnFailure}
    assert arguments.LAUNCHERS == settings.LAUNCHERS


MANY = [f"t{number:03}" for number in range(1000)]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        (["a", "b"], "a,b"),
        (MANY[:6], "t000,t001,t002,t003,t004,t005"),
        (MANY[:20], "t000,t001,t002,t003,t004 +15"),
        (MANY, "t000,t001,t002,t003,t004 +995"),
        (["x" * 80], "x" * 80),
        (["x" * 80, "y"], f"{'x' * 80} +1"),
    ],
)
def test_what_a_task_waits_for_is_abbreviated(names: list[str], said: str) -> None:
    assert show.abbreviate(names, show.AFTER_SHOWN) == said
    task = model.Task("t", "true", dependencies=names)
    assert not names or said in show.task_table([task])[1][0]


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("1.5m", 90), ("1h", 3600), ("7d", 604800), ("2w", 1209600), ("0", 0)]
)
def test_spans_of_time(text: str, value: float) -> None:
    assert arguments.seconds(text) == value


@pytest.mark.parametrize("text", ["", "x", "h", "-1", "nan", "inf", "1y", "1 h x"])
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a span of time"):
        arguments.seconds(text)


def test_pairs_and_whole_numbers() -> None:
    assert arguments.pair("a=b=c") == ("a", "b=c") and arguments.pair("a=") == ("a", "")
    for text in ("secret", "=secret", ""):
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            arguments.pair(text)
        assert "secret" not in str(caught.value)
    assert arguments.whole("3") == 3
    for text in ("0", "-1", "x", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError):
            arguments.whole(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.04, "0.0s"), (9.9, "9.9s"), (9.96, "10s"), (59.6, "1m00s"), (185, "3m05s"), (7800, "2h10m")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert output.duration(seconds) == text


@given(st.text())
def test_cleaned_text_is_one_line_that_obeys_nobody(text: str) -> None:
    cleaned = output.clean(text)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in cleaned)


@given(st.text(alphabet="abcdef", max_size=40), st.integers(1, 40))
def test_shortened_text_keeps_both_ends(text: str, size: int) -> None:
    short = output.shorten(text, size)
    assert len(short) == min(len(text), size)
    assert short == text or (short.count("…") == 1 and text.startswith(short.split("…")[0]))


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=6),
    st.sets(st.integers(0, 5), max_size=6),
    st.none() | st.integers(1, 200),
)
def test_columns_fit_where_they_can(widths: list[int], flexible: set[int], room: int | None) -> None:
    columns = [i for i in flexible if i < len(widths)]
    fitted = output.fit(widths, columns, room)
    assert all(fitted[i] == widths[i] for i in range(len(widths)) if i not in columns)
    assert all(min(widths[i], 8) <= fitted[i] <= widths[i] for i in columns)
    if room is None:
        assert fitted == widths
    elif sum(fitted) + 2 * (len(fitted) - 1) > room:
        assert all(fitted[i] <= 8 for i in columns), "nothing more can be taken"


@pytest.mark.parametrize(
    ("room", "kept"),
    [
        (None, ["NAME", "STATE", "QUEUE", "TOOK"]),
        (80, ["NAME", "STATE", "QUEUE", "TOOK"]),
        (60, ["NAME", "STATE", "TOOK"]),
        (50, ["NAME", "STATE"]),
        (20, ["NAME", "STATE"]),
    ],
)
def test_columns_that_say_little_go_before_a_name_is_cut_short(room: int | None, kept: list[str]) -> None:
    headers = ("NAME", "STATE", "QUEUE", "TOOK")
    chosen = output.choose(headers, [90, 20, 20, 8], ("NAME", "QUEUE"), ("QUEUE", "TOOK"), room)
    assert [headers[i] for i in chosen] == kept


def test_a_long_name_gives_way_last() -> None:
    assert output.fit([90, 60], [0, 1], 40) == [24, 14] and output.fit([90, 60], [1, 0], 40) == [14, 24]
    assert output.fit([90, 60], [0, 1], 20) == [10, 8] and output.fit([90, 60], [0, 1], None) == [90, 60]


def test_text_is_wrapped_and_in_a_pipe_left_alone() -> None:
    text = "the file orders.csv has a line that is no order"
    assert output.wrap(text, None) == output.wrap(text, 80) == [text]
    lines = output.wrap(text, 25, "  ")
    assert " ".join(line.strip() for line in lines) == text and max(map(len, lines)) <= 25
    assert output.wrap("x" * 50, 30) == ["x" * 30, "x" * 20]


def test_the_start_of_a_long_reason() -> None:
    assert output.brief("one line\nand another") == "one line"
    assert len(output.brief("x" * 999)) == 160


def test_times_in_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    times = ["2026-01-31T23:59:59.123456Z", "2026-02-01T00:00:01.000001Z"]
    assert output.moments(times) == times, "in a pipe"
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    assert output.moments(times) == ["01-31 23:59:59", "02-01 00:00:01"]
    assert output.moments(times[:1]) == ["23:59:59.123"] and output.moments(["odd", ""]) == ["odd", ""]


def test_no_colours_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "STATE"), [("a", "failed"), ("b" * 300, None)], flexible=("NAME",))
    text = capsys.readouterr().out
    assert "\x1b" not in text and "b" * 300 in text


def test_colours_on_a_terminal_unless_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.paint("failed") == "\x1b[31mfailed\x1b[0m" and output.paint("a name") == "a name"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.paint("failed") == "failed"


def test_counts() -> None:
    assert (output.count(1, "job"), output.count(2, "job")) == ("1 job", "2 jobs")
