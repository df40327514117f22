"""What a job may ask of Slurm: what is taken, what is refused and how that is said, and the flags that come of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor import model
from air_executor.errors import InvalidJobError
from air_executor.slurm import options

ALL = {
    "partition": "gpu,long",
    "account": "physics",
    "qos": "normal",
    "constraint": "[rack1|rack2]&fast",
    "cpus": 4,
    "memory": "4G",
    "gres": "gpu:a100:1",
    "time": 90,
    "array": 100,
    "extra": ["--exclusive", "--comment=two words"],
}


def test_all_options_become_the_flags_of_sbatch() -> None:
    assert set(ALL) == set(options.NAMES)
    assert options.arguments(ALL) == [
        "--partition=gpu,long",
        "--account=physics",
        "--qos=normal",
        "--constraint=[rack1|rack2]&fast",
        "--cpus-per-task=4",
        "--mem=4096M",
        "--gres=gpu:a100:1",
        "--time=0-01:30:00",
        "--exclusive",
        "--comment=two words",
    ]
    assert options.arguments({}) == []


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"partiton": "gpu"}, "slurm has the unknown option 'partiton'; did you mean partition?"),
        ({"gpus": 1}, "slurm has the unknown option 'gpus'; for GPUs it is gres, such as gres='gpu:1'"),
        ({"nodes": 2}, "slurm has the unknown option 'nodes'; known are account, array, constraint, cpus"),
        ({7: 2}, "slurm has the unknown option '7'"),
        ("partition=gpu", "slurm must be a table of options, not str"),
        ({"partition": ""}, "slurm 'partition' must be a text without blanks"),
        ({"partition": "-x"}, "'partition' must be a text .* does not begin with '-', not '-x'"),
        ({"partition": "a --uid=0"}, "'partition' must be a text without blanks"),
        ({"account": "a\n--uid=0"}, "'account' must be a text"),
        ({"qos": "a\0b"}, "'qos' must be a text"),
        ({"constraint": "a\u00a0b"}, "'constraint' must be a text"),
        ({"partition": "\udcff"}, "'partition' must be a text"),
        ({"partition": "p" * 1001}, "'partition' must be a text"),
        ({"partition": 7}, "'partition' must be a text .*, not 7"),
        ({"partition": None}, "'partition' must be a text .*, not None"),
        ({"gres": "help"}, "'gres' must name what is asked for"),
        ({"gres": ["gpu:1"]}, "'gres' must be a text .*, not a list"),
        ({"cpus": 0}, "'cpus' must be a whole number of at least 1, not 0"),
        ({"cpus": True}, "'cpus' must be a whole number of at least 1, not True"),
        ({"cpus": 1.5}, "'cpus' must be a whole number"),
        ({"cpus": "4"}, "'cpus' must be a whole number of at least 1, not '4'"),
        ({"cpus": 10**5000}, "'cpus' must be a whole number of at least 1, not a number so large"),
        ({"array": -1}, "'array' must be a whole number"),
        ({"memory": -1}, "'memory' must be MiB as a whole number .*, or a text such as '512M' or '4G', not -1"),
        ({"memory": "4X"}, "'memory' must be MiB"),
        ({"memory": "4 G"}, "'memory' must be MiB"),
        ({"memory": 1.5}, "'memory' must be MiB"),
        ({"memory": "999999999999T"}, "'memory' must be MiB"),
        ({"time": 0}, "'time' must be minutes, or one of Slurm's forms such as '1:30:00' .*, above 0, not 0"),
        ({"time": "0:00"}, "'time' must be minutes"),
        ({"time": "tomorrow"}, "'time' must be minutes"),
        ({"time": "1:2:3:4"}, "'time' must be minutes"),
        ({"time": "\u0661"}, "'time' must be minutes"),
        ({"time": float("nan")}, "'time' must be minutes"),
        ({"time": float("inf")}, "'time' must be minutes"),
        ({"time": 10**5000}, "'time' must be minutes"),
        ({"time": "999999999-0"}, "'time' must be minutes"),
        ({"extra": "--exclusive"}, "'extra' must be a list of flags for sbatch, each one text, '--name' or "),
        ({"extra": ["--nodelist", "n1"]}, "'extra' must be a list .*; number 2 is none"),
        ({"extra": ["-p"]}, "number 1 is none"),
        ({"extra": ["--"]}, "number 1 is none"),
        ({"extra": ["script.sh"]}, "number 1 is none"),
        ({"extra": ["--comment=a\nb"]}, "number 1 is none"),
        ({"extra": ["--comment=a\0b"]}, "number 1 is none"),
        ({"extra": ["--exclusive", 1]}, "number 2 is none"),
        ({"extra": ["--job-name=x"]}, "'extra' may not hold --job-name: Air-Executor finds its jobs again by it"),
        ({"extra": ["--job"]}, "may not hold --job, which may be short for --job-name"),
        ({"extra": ["--arr=1-9"]}, "may not hold --arr, which may be short for --array: use the option 'array'"),
        ({"extra": ["--mem=4G"]}, "may not hold --mem: use the option 'memory'"),
        ({"extra": ["--cpus-per-task=2"]}, "use the option 'cpus'"),
        ({"extra": ["--output=/etc/passwd"]}, "may not hold --output: what a job writes is in its directory"),
        ({"extra": ["--wrap=secret"]}, "may not hold --wrap: "),
        ({"extra": ["--distribution=help"]}, "may not hold --distribution=help"),
    ],
)
def test_what_is_no_option_is_refused_and_named(given_options: Any, message: str) -> None:
    with pytest.raises(InvalidJobError, match=message) as caught:
        options.check(given_options)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value) and len(str(caught.value)) < 300
    with pytest.raises(InvalidJobError):
        options.arguments(given_options)


@pytest.mark.parametrize("flag", ["error", "export", "hold", "no-requeue", "parsable", "signal", "uid", "wait", "help"])
def test_no_flag_that_takes_a_job_away_from_us_can_be_asked_for(flag: str) -> None:
    for spelled in (f"--{flag}", f"--{flag}=x", f"--{flag[:3]}"):
        with pytest.raises(InvalidJobError, match="slurm 'extra' may not hold"):
            options.check({"extra": [spelled]})


@pytest.mark.parametrize(
    "flag",
    [
        *("--exclusive", "--begin=now+1hour", "--nice=100", "--mem-per-cpu=2G", "--time-min=10", "--gres-flags=x"),
        *("--dependency=afterok:1", "--mail-type=END", "--wait-all-nodes=1", "--nodelist=n[1-3]", "--get-user-env"),
    ],
)
def test_other_flags_are_taken_as_they_are(flag: str) -> None:
    assert options.arguments({"extra": [flag]}) == [flag]


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.just("-x"))


@given(st.dictionaries(st.sampled_from(options.NAMES), st.one_of(values, st.lists(values, max_size=3)), max_size=4))
def test_whatever_is_given_there_is_one_flag_for_each_option_or_an_error(asked: dict[str, Any]) -> None:
    try:
        flags = options.arguments(asked)
    except InvalidJobError:
        return
    expected = [f"--{options.FLAGS[name]}" for name in options.FLAGS if name in asked]
    own, extra = flags[: len(expected)], flags[len(expected) :]
    assert [flag.partition("=")[0] for flag in own] == expected
    assert extra == asked.get("extra", []) and all(flag.startswith("--") for flag in extra)
    assert not any(character in flag for flag in flags for character in "\0\n\r")


# --- Forms ---


@pytest.mark.parametrize(
    ("value", "seconds", "spelled"),
    [
        (90, 5400, "0-01:30:00"),
        (0.5, 30, "0-00:00:30"),
        ("90", 5400, "0-01:30:00"),
        ("90:30", 5430, "0-01:30:30"),
        ("1:30:00", 5400, "0-01:30:00"),
        ("2-00:00:00", 172_800, "2-00:00:00"),
        ("2-12", 216_000, "2-12:00:00"),
        ("2-12:30", 217_800, "2-12:30:00"),
        ("0-00:00:01", 1, "0-00:00:01"),
    ],
)
def test_times(value: Any, seconds: int, spelled: str) -> None:
    assert options.time_seconds(value) == seconds
    assert options.spell_time(seconds) == spelled
    assert options.time_seconds(spelled) == seconds


@pytest.mark.parametrize(
    ("value", "mib"),
    [(0, 0), (1500, 1500), ("1500", 1500), ("512M", 512), ("4g", 4096), ("1T", 2**20), ("1K", 1), ("2048K", 2)],
)
def test_memory(value: Any, mib: int) -> None:
    assert options.memory_mb(value) == mib


def test_what_was_typed_becomes_numbers_where_there_may_be_some() -> None:
    typed = {"cpus": "4", "memory": " 512 ", "time": "1:00:00", "array": "x", "partition": "7"}
    with pytest.raises(InvalidJobError, match="--slurm 'array' must be a whole number of at least 1, not 'x'"):
        options.read(typed, "--slurm", typed=True)
    del typed["array"]
    assert options.read(typed, typed=True) == typed | {"cpus": 4, "memory": 512}
    with pytest.raises(InvalidJobError, match="slurm 'cpus' must be a whole number"):
        options.read(typed)


def test_what_was_given_as_pairs() -> None:
    pairs = [("cpus", "2"), ("extra", "--exclusive"), ("qos", "x"), ("cpus", "4"), ("extra", "--nice=1")]
    expected = {"cpus": 4, "extra": ["--exclusive", "--nice=1"], "qos": "x"}
    assert options.read_pairs(pairs, "--slurm") == expected
    assert options.describe(expected) == "cpus=4, extra=--exclusive --nice=1, qos=x"
    assert options.describe({}) == "what the cluster has by default"


def test_none_asks_for_nothing() -> None:
    assert options.read({"cpus": None, "qos": "x"}) == {"qos": "x"}
    with pytest.raises(InvalidJobError, match="it must be a table of options, not NoneType"):
        options.read(None, "it")


# --- What a job asks for ---


def test_what_a_job_asks_for_goes_before_the_defaults_and_flags_are_added() -> None:
    defaults = {"partition": "gpu", "cpus": 2, "extra": ["--exclusive"]}
    asked = {"cpus": 4, "time": 5, "extra": ["--nice=1"]}
    expected = {"partition": "gpu", "cpus": 4, "time": 5, "extra": ["--exclusive", "--nice=1"]}
    assert options.combine(defaults, asked) == expected
    assert options.combine(defaults, None) == defaults == options.combine({}, defaults)
    assert defaults["extra"] == ["--exclusive"], "it was changed"


@pytest.mark.parametrize(
    ("defaults", "asked", "expected"),
    [
        ({"memory": "1G"}, {"extra": ["--mem-per-cpu=1G"]}, {"extra": ["--mem-per-cpu=1G"]}),
        ({"extra": ["--mem-per-g=1", "--exclusive"]}, {"memory": 5}, {"memory": 5, "extra": ["--exclusive"]}),
        ({"memory": "1G", "extra": ["--nice=1"]}, {"memory": 5}, {"memory": 5, "extra": ["--nice=1"]}),
    ],
)
def test_memory_is_asked_for_in_one_way(
    defaults: dict[str, Any], asked: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert options.combine(defaults, asked) == expected


@pytest.mark.parametrize(
    ("job", "defaults", "expected"),
    [
        ({}, {"time": 60, "memory": "1G"}, {"time": 60, "memory": "1G"}),
        ({"timeout": 600, "memory_mb": 1000}, {}, {"time": 13, "memory": 1200}),  # 10 minutes, 10 s, 2 minutes
        ({"timeout": 600, "memory_mb": 8000}, {"time": 60, "memory": "1G"}, {"time": 13, "memory": 8200}),
        ({"timeout": 600, "memory_mb": 1000, "slurm": {"time": 5, "memory": 10}}, {}, {"time": 5, "memory": 10}),
        ({"memory_mb": 1000}, {"extra": ["--mem-per-cpu=1G"]}, {"extra": ["--mem-per-cpu=1G"]}),
        ({"memory_mb": 1000, "slurm": {"extra": ["--mem-per-g=1"]}}, {}, {"extra": ["--mem-per-g=1"]}),
        ({"timeout": 1e15, "memory_mb": 2**52}, {}, {"time": (2**31 - 1) // 60, "memory": 2**31 - 1}),
    ],
)
def test_what_follows_from_the_limits_of_a_job(
    job: dict[str, Any], defaults: dict[str, Any], expected: dict[str, Any]
) -> None:
    asked = options.of_job(model.Job("a", **job), defaults)
    assert asked == expected
    options.arguments(asked)
