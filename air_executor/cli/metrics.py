"""`metrics`: what the runners of the home tell of themselves, put together.

`--json` prints a list of {"name", "kind", "help", "samples"}, each sample {"name", "labels", "value"}.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from air_executor.cli import arguments, lookup, output

if TYPE_CHECKING:
    from air_executor.exposition import Family
    from air_executor.paths import Home

_TEXT = """\
Print the metrics of all living runners of the home in the text format of
Prometheus, as they last wrote them to metrics/<runner>.prom. For node_exporter,
whose user may not read the home, let cron write them where it looks."""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    arguments.add_command(
        commands,
        "metrics",
        run,
        help="print the metrics of the runners",
        text=_TEXT,
        examples=("air-executor metrics", "air-executor metrics > jobs.prom.new && mv jobs.prom.new jobs.prom"),
    )


def run(args: argparse.Namespace) -> int:
    """Print them."""
    from air_executor import exposition, runners

    home = lookup.open_home(args)
    told = [_read(home, info.id) for info in runners.alive_runners(home)]
    if not any(told):
        output.note(f"no living runner of {home.root} has told any metrics")
    families = exposition.merge(told)
    if args.json:
        output.say_json([_facts(family) for family in families])
    else:
        sys.stdout.write(exposition.render(families))
    return 0


def _read(home: Home, runner_id: str) -> list[Family]:
    """What a runner wrote; nothing if it writes nothing, or has not done so yet."""
    from air_executor import _files, exposition
    from air_executor.errors import CorruptFileError

    path = home.runner_metrics(runner_id)
    try:
        return exposition.parse(_files.read_bytes(path).decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except ValueError as error:
        raise CorruptFileError(path, f"holds no metrics ({error}); the runner writes it anew before long") from None


def _facts(family: Family) -> dict[str, object]:
    samples = [{"name": each.name, "labels": dict(each.labels), "value": each.value} for each in family.samples]
    return {"name": family.name, "kind": family.kind, "help": family.help, "samples": samples}
