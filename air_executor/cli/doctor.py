"""`doctor`: look for what is wrong, say how to put it right, and with `--fix` do what is safe of that.

`--json` prints {"ok", "findings": [{"check", "level", "text", "fix", "fixable"}], "fixed": [lines]}; the levels are ok,
warning and problem. The exit code is 0 if all is well, and 1 if there is a warning or a problem (after `--fix`: still).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from air_executor.cli import arguments, lookup, output
from air_executor.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from air_executor import doctor
    from air_executor.paths import Home

_TEXT = """\
Look for what is wrong with the home, its filesystem, the settings, runners,
Airflow's configuration and Slurm, and say how to put it right.

--fix does what is safe of that: modes and missing directories of the home,
temporary files and runners' files that dead processes left, the spool, damaged
caches. It touches no job, no process, nothing of Airflow and nothing of another
user, says what it did, and looks again. --fix --dry-run says what it would do.

--slurm-probe submits a small job to Slurm for each queue that has its jobs
there, which looks at the home, its locks, Python and the clock from a node.

The exit code is 0 if all is well, 1 if there is a warning or a problem."""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        commands,
        "doctor",
        run,
        help="look for what is wrong, and say how to put it right",
        text=_TEXT,
        examples=("air-executor doctor", "air-executor doctor --fix --dry-run", "air-executor doctor --fix"),
    )
    parser.add_argument("--fix", action="store_true", help="do what is safe, and look again")
    parser.add_argument("--slurm-probe", action="store_true", help="let a small job of Slurm look at the home, too")
    parser.add_argument("--dry-run", action="store_true", help="with --fix: only say what it would do")


def run(args: argparse.Namespace) -> int:
    """Say each finding as it comes: some checks take a moment."""
    from air_executor import doctor

    if args.dry_run and not args.fix:
        raise InvalidInputError("--dry-run says what --fix would do; give both")
    home = lookup.find_home(args)
    ask = doctor.once(doctor.ask_airflow)
    findings = _look(home, ask, quiet=args.json, probe=args.slurm_probe)
    fixed = _fix(args, home, ask, findings) if args.fix else []
    well = all(finding.level is doctor.Level.OK for finding in findings)
    if args.json:
        output.say_json({"ok": well, "findings": [finding.to_dict() for finding in findings], "fixed": fixed})
    return 0 if well else 1


def _look(home: Home, ask: doctor.Ask, *, quiet: bool, probe: bool = False) -> list[doctor.Finding]:
    from air_executor import doctor

    findings = []
    for finding in doctor.examine(home, ask, probe=probe):
        findings.append(finding)
        if not quiet:
            _say(finding)
    return findings


def _fix(args: argparse.Namespace, home: Home, ask: doctor.Ask, findings: list[doctor.Finding]) -> list[str]:
    """Do what is safe, or say what would be done; `findings` becomes what is found then."""
    from air_executor import doctor

    if args.dry_run:
        would = [f"would {remedy.does}" for remedy in doctor.remedies(findings)]
        return _tell(args, would or ["there is nothing that --fix could do"])
    done: list[str] = []
    tried: set[str] = set()
    while wanted := [remedy for remedy in doctor.remedies(findings) if remedy.does not in tried]:
        done += _tell(args, doctor.mend(wanted))
        tried.update(remedy.does for remedy in wanted)
        findings[:] = _look(home, ask, quiet=True)  # what is closed may hide what is wrong in it
    if not done:
        return _tell(args, ["there is nothing that --fix could do"])
    if not args.json:
        output.say("\nafter that:")
        for finding in findings:
            _say(finding)
    return done


def _tell(args: argparse.Namespace, lines: Iterable[str]) -> list[str]:
    told = []
    for line in lines:
        told.append(line)
        if not args.json:
            output.say(f"fix: {output.clean(line)}")
            output.flush()
    return told


def _say(finding: doctor.Finding) -> None:
    output.say(f"{output.paint(finding.level.value.ljust(8))} {finding.check.ljust(12)} {output.clean(finding.text)}")
    if finding.fix:
        output.say(f"{' ' * 22}fix: {output.clean(finding.fix)}")
    output.flush()
