"""Where options come from, which one wins, and what is said of those that make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from air_executor import model, retention, settings
from air_executor.errors import SettingsError
from air_executor.paths import Home


def test_defaults(home: Home) -> None:
    assert settings.load(home, {}).runner == settings.RunnerSettings()
    assert settings.RunnerSettings().queues == ("default",)


def test_flags_before_environment_before_file_before_defaults(home: Home) -> None:
    home.config.write_text('[runner]\nslots = 1\ngrace = 1\nheartbeat = 1.5\nqueues = ["a", "b", "a"]\n')
    loaded = settings.load(home, {"AIR_EXECUTOR_RUNNER_SLOTS": "2", "AIR_EXECUTOR_RUNNER_GRACE": "2", "OTHER": "x"})
    final = settings.override(loaded.runner, {"slots": "3", "grace": None})
    assert (final.slots, final.grace, final.heartbeat) == (3, 2.0, 1.5)
    assert final.queues == ("a", "b") and final.linger == 0.0


def test_a_list_in_a_variable(home: Home) -> None:
    assert settings.load(home, {"AIR_EXECUTOR_RUNNER_QUEUES": " a, b ,"}).runner.queues == ("a", "b")


def test_the_home_variable_is_no_option(home: Home) -> None:
    settings.load(home, {"AIR_EXECUTOR_HOME": "/x"})


def test_retention(home: Home) -> None:
    home.config.write_text("[retention]\ncompleted_days = 0.5\nfailed_days = 0\nmax_mb = 3\n")
    loaded = settings.load(home, {"AIR_EXECUTOR_RETENTION_KEEP": "9", "AIR_EXECUTOR_RETENTION_INTERVAL": "0"})
    assert loaded.retention.policy == retention.Policy(43_200.0, None, 9, 3 * 2**20)
    assert loaded.retention.interval == 0.0 and loaded.runner == settings.RunnerSettings()
    assert settings.RetentionSettings().policy == retention.Policy(7 * 86_400.0, 30 * 86_400.0)


QUEUES = """
[queues.gpu]
launcher = "slurm"
partition = "gpu"
cpus = 4
extra = ["--exclusive"]
setup = '''
module load cuda
module load python'''
python = "python3"
pilots = 2

[queues.fast]

[queues."a.b"]
setup = "module load python"
"""


def test_queues_and_what_their_jobs_ask_of_slurm(home: Home) -> None:
    home.config.write_text(QUEUES + "[slurm]\npoll = 5\n")
    loaded = settings.load(home, {"AIR_EXECUTOR_SLURM_POLL": "2.5", "AIR_EXECUTOR_SLURM_MAX_JOBS": "7"})
    assert loaded.slurm == settings.SlurmSettings(max_jobs=7, poll=2.5)
    gpu = loaded.queue("gpu")
    assert (gpu.launcher, gpu.python, gpu.pilots, gpu.slots_of_pilot) == ("slurm", "python3", 2, 4)
    assert gpu.setup == "module load cuda\nmodule load python"
    assert gpu.slurm == {"partition": "gpu", "cpus": 4, "extra": ["--exclusive"]}
    assert loaded.queue("fast") == loaded.queue("other") == settings.QueueSettings()
    assert loaded.queue("a.b").setup == "module load python"


def test_where_a_job_goes_and_what_it_asks_for(home: Home) -> None:
    home.config.write_text(QUEUES + '[queues.far]\nlauncher = "slurm"\ntime = 5\n[runner]\ngrace = 60\n')
    loaded = settings.load(home, {})
    default: dict[str, Any] = {"partition": "gpu", "cpus": 4, "extra": ["--exclusive"]}
    for job, expected in (
        (model.Job("a"), None),
        (model.Job("a", queue="fast", timeout=60), None),
        (model.Job("a", queue="fast", slurm={}), {}),
        (model.Job("a", slurm={"cpus": 1}, timeout=60), {"cpus": 1, "time": 4}),
        (model.Job("a", queue="far"), {"time": 5}),
        (model.Job("a", queue="gpu"), None),  # its pilots run it
        (model.Job("a", queue="gpu", slurm={}), default),
        (model.Job("a", queue="gpu", slurm={"partition": "big"}), {**default, "partition": "big"}),
    ):
        assert loaded.slurm_options(job) == expected, job


def test_a_runner_serves_the_queues_that_have_a_table_unless_somebody_says(home: Home) -> None:
    home.config.write_text(QUEUES)
    assert settings.load(home, {}).runner.queues == ("default", "gpu", "fast", "a.b")
    assert settings.load(home, {"AIR_EXECUTOR_RUNNER_QUEUES": "x"}).runner.queues == ("x",)
    home.config.write_text(QUEUES + "[runner]\nqueues = ['gpu']\n")
    assert settings.load(home, {}).runner.queues == ("gpu",)


MALFORMED: list[tuple[str, str]] = [
    ("[retention]\ncomplete_days = 1", "unknown option in .retention. complete_days; did you mean completed_days"),
    ("[retention]\ncompleted_days = -1", "completed_days must be a number of days, not -1"),
    ("[retention]\nkeep = -1", "keep must be 0 or more, not -1"),
    ("[retention]\nmax_mb = 1.5", "max_mb must be a whole number"),
    ("[retention]\ninterval = nan", "interval must be a number of seconds"),
    ("[runner]\nslotss = 1", "unknown option in .runner. slotss; did you mean slots"),
    ("[runner]\nxyz = 1", "unknown option in .runner. xyz; known are cgroup, grace, handover"),
    ("[runer]\nslots = 1", "unknown table runer; did you mean runner"),
    ("runner = 1", "should be a table"),
    ("[runner", "not valid TOML"),
    ("[runner]\nslots = 0", "slots must be more than 0, not 0"),
    ("[runner]\nslots = 1.5", "slots must be a whole number, not 1.5"),
    ("[runner]\nslots = true", "slots must be a whole number"),
    ('[runner]\nslots = "many"', "slots must be a whole number, not 'many'"),
    ("[runner]\nslots = []", "slots must be a whole number"),
    ("[runner]\nqueues = []", "queues must name at least one queue"),
    ('[runner]\nqueues = ["../up"]', "queues: the queue '../up'"),
    ("[runner]\nqueues = [1]", "queues must be a list of texts"),
    ("[runner]\nqueues = 1", "queues must be a list of texts"),
    ('[runner]\nlauncher = "slurp"', "launcher must be one of fork, exec, not 'slurp'"),
    ("[runner]\nlauncher = 1", "launcher must be a text"),
    ("[runner]\npreload = {}", "preload must be a list of texts"),
    ("[runner]\ngrace = -1", "grace must be a number of seconds"),
    ("[runner]\ngrace = nan", "grace must be a number of seconds"),
    ("[runner]\ngrace = true", "grace must be a number of seconds"),
    ("[runner]\ncgroup = 1", "cgroup must be true or false, not 1"),
    ("[runner]\nhandover = 1", "handover must be true or false, not 1"),
    ("[runner]\noutput_mb = -1", "output_mb must be 0 or more, not -1"),
    ("[runner]\nmetrics_interval = -1", "metrics_interval must be a number of seconds, not -1"),
    ("[runner]\nmetrics_interval = 0.01", "metrics_interval must be 0 for none, or at least 0.1 s, not 0.01"),
    ("[runner]\nmetrics_port = 65536", "metrics_port must be a port from 1 to 65535, or 0 for none, not 65536"),
    ('[runner]\nmetrics_host = ""', "metrics_host must be an address such as 127.0.0.1, not ''"),
    ("[runner]\nheartbeat = 0", "heartbeat must be more than 0"),
    ("[runner]\nheartbeat = inf", "heartbeat must be a number of seconds"),
    ('[runner]\nlinger = "x"', "linger must be a number of seconds"),
    ("[slurm]\nmax_jobs = 0", "max_jobs must be more than 0, not 0"),
    ("[slurm]\npoll = 0", "poll must be more than 0, not 0"),
    ("[slurm]\npatience = -1", "patience must be a number of seconds, not -1"),
    ("[slurm]\ntimeout = 0.5", "timeout must be at least 1 s, not 0.5"),
    ("[slurm]\npartition = 1", "unknown option in .slurm. partition; known are max_jobs, patience, poll, timeout"),
    ("queues = 1", "queues. should be tables; write .queues.NAME."),
    ("[queues]\ngpu = 1", "queues.gpu should be a table; write .queues.gpu."),
    ("[queues.'../up']\n", "queues.../up.: the queue '../up' must start with a letter"),
    ("[queues.gpu]\npartiton = 'x'", "queues.gpu. has the unknown option partiton; did you mean partition?"),
    (
        "[queues.my.gpu]\ncpus = 1",
        "queues.my. has the unknown option gpu; .*; the queue .my.gpu. is written .queues..my.gpu..",
    ),
    ("[queues.gpu]\nlauncher = 'slurp'", "queues.gpu. launcher must be one of local, slurm, not 'slurp'"),
    ("[queues.gpu]\nlauncher = 1", "launcher must be a text, not 1"),
    ("[queues.gpu]\nsetup = 1", "setup must be a text, not 1"),
    ('[queues.gpu]\nsetup = "a\\u0000"', "setup must be lines for a shell, without NUL"),
    ("[queues.gpu]\npython = '-c'", "python must be a Python of the node"),
    ("[queues.gpu]\npilots = -1", "pilots must be 0 or more, not -1"),
    ("[queues.gpu]\npilot_idle = true", "pilot_idle must be a number of seconds"),
    ("[queues.gpu]\npilot_slots = 0", "pilot_slots must be more than 0, not 0"),
    ("[queues.gpu]\nlauncher = 'slurm'\ncpus = '4'", "queues.gpu. cpus must be a whole number of at least 1, not '4'"),
    ("[queues.gpu]\nlauncher = 'slurm'\nextra = ['--wrap=x']", "queues.gpu. extra may not hold --wrap"),
    ("[queues.gpu]\npartition = 'x'", "partition is for queues whose jobs run on Slurm; set launcher = .slurm., too"),
    ("[queues.gpu]\nlauncher = 'local'\npilots = 1", "pilots is for queues whose jobs run on Slurm"),
]


@pytest.mark.parametrize(("text", "message"), MALFORMED)
def test_a_malformed_file_is_refused_and_named(home: Home, text: str, message: str) -> None:
    home.config.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        settings.load(home, {})
    assert str(home.config) in str(caught.value) and caught.value.exit_code == 2


def test_every_option_has_a_malformed_case() -> None:
    """So that a new option does not come without one."""
    import dataclasses

    kinds = {"[runner]": settings.RunnerSettings, "[slurm]": settings.SlurmSettings}
    for table, kind in {**kinds, "[queues.gpu]": settings.QueueSettings}.items():
        for name in {item.name for item in dataclasses.fields(kind)} - {"slurm"}:
            assert any(text.startswith(table) and f"\n{name} = " in text for text, _ in MALFORMED), name


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AIR_EXECUTOR_RUNNER_SLOTS", "x", "AIR_EXECUTOR_RUNNER_SLOTS must be a whole number, not 'x'"),
        ("AIR_EXECUTOR_RUNNER_SLOTS", "", "AIR_EXECUTOR_RUNNER_SLOTS must be a whole number, not ''"),
        ("AIR_EXECUTOR_RUNNER_SLOT", "1", "unknown variable AIR_EXECUTOR_RUNNER_SLOT; did you mean SLOTS"),
        ("AIR_EXECUTOR_RUNNER_QUEUES", "", "must name at least one queue"),
    ],
)
def test_a_malformed_variable_is_refused_and_named(home: Home, variable: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings.load(home, {variable: value})


@pytest.mark.parametrize(
    ("flag", "value"), [("slots", 0), ("queues", "a b"), ("launcher", "x"), ("linger", "-1"), ("metrics_port", "x")]
)
def test_a_malformed_flag_is_refused_and_named(flag: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"--{flag.replace('_', '-')}"):
        settings.override(settings.RunnerSettings(), {flag: value})


def test_a_file_that_is_no_text_is_refused(home: Home) -> None:
    home.config.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not valid TOML"):
        settings.load(home, {})


def test_a_config_that_is_a_directory_is_refused(home: Home) -> None:
    home.config.mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        settings.load(home, {})
