"""`doctor`: look for what is wrong, and say how to put it right.

`--json` prints {"ok", "findings": [{"check", "level", "text", "fix"}]}; the levels are ok, warning and problem. The
exit code is 1 if there is a problem.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from air_executor.cli import arguments, lookup, output

if TYPE_CHECKING:
    from air_executor import doctor


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    arguments.add_command(
        commands,
        "doctor",
        run,
        help="look for what is wrong, and say how to put it right",
        examples=("air-executor doctor",),
    )


def run(args: argparse.Namespace) -> int:
    """Say each finding as it comes: some checks take a moment."""
    import dataclasses

    from air_executor import doctor

    home = lookup.find_home(args)
    findings = []
    for finding in doctor.examine(home):
        findings.append(finding)
        if not args.json:
            _say(finding)
    bad = [finding for finding in findings if finding.level is doctor.Level.PROBLEM]
    if args.json:
        output.say_json({"ok": not bad, "findings": [dataclasses.asdict(finding) for finding in findings]})
    return 1 if bad else 0


def _say(finding: doctor.Finding) -> None:
    output.say(f"{output.paint(finding.level.value.ljust(8))} {finding.check.ljust(12)} {output.clean(finding.text)}")
    if finding.fix:
        output.say(f"{' ' * 22}fix: {output.clean(finding.fix)}")
    output.flush()
