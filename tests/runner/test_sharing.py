"""What a template shares with its forks: each of these is a process of its own, for it is changed for ever."""

from __future__ import annotations

import subprocess
import sys
import textwrap

IMMORTALS = sys.version_info >= (3, 12)


def run(body: str) -> list[str]:
    """The lines that a program prints."""
    program = "import gc, os, resource, sys\nfrom air_runner import sharing\n" + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


COUNT = """
    things = [{"number": str(number)} for number in range(50_000)]

    def fork_and_count(body):
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            body()
            after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            os.write(writer, str(after - before).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return int(os.read(reader, 100))
    """


def test_using_what_is_there_copies_nothing() -> None:
    before, after = map(
        int,
        run(
            COUNT
            + """
    def use():
        for thing in things:
            thing["number"].upper()
    print(fork_and_count(use))
    sharing.keep_unwritten()
    print(fork_and_count(use))
    """
        ),
    )
    assert before > 1000
    assert (after < before / 10) is IMMORTALS


def test_what_is_new_does_not_go_between_what_is_there() -> None:
    before, after = map(
        int,
        run(
            COUNT
            + """
    things += [bytes(200) for _ in range(50_000)]
    kept = things[50_000::8]
    del things[50_000:]
    def make():
        made = [bytes(200) for _ in range(5_000)]
    print(fork_and_count(make))
    sharing.keep_unwritten()
    print(fork_and_count(make))
    """
        ),
    )
    assert after < before, "eight times as many objects share a page"


def test_what_is_immortal_can_still_be_used_changed_and_dropped() -> None:
    """What came later ends as ever; what was there ends with its process."""
    printed = run("""
    class Thing:
        def __init__(self, value):
            self.value = value
        def __del__(self):
            print("gone", self.value)
    old = [Thing(number) for number in range(3)]
    text = "some text that nobody has interned"
    sharing.keep_unwritten()
    old.append(Thing(3))
    old[3] = None
    old[0].value = 5
    total = sum(each.value for each in old[:3])
    old.clear()
    gc.collect()
    sys.intern(text)
    print(total, text[:4], flush=True)
    os._exit(0)
    """)
    gone = [int(word) for word in printed if word.isdigit()]
    assert printed[-2:] == ["8", "some"]
    assert sorted(gone) == ([3, 8] if IMMORTALS else [1, 2, 3, 5, 8])


def test_it_can_be_done_again() -> None:
    assert run("""
    sharing.keep_unwritten()
    more = [str(number) for number in range(1000, 2000)]
    sharing.keep_unwritten()
    gc.collect()
    print(len(more), more[-1])
    """) == ["1000", "1999"]


def test_big_pages_are_asked_for_and_nothing_is_lost() -> None:
    held, enlarged = run("""
    things = [str(number) * 3 for number in range(200_000)]
    enlarged = sharing.enlarge_pages()
    print(all(thing == str(number) * 3 for number, thing in enumerate(things)), enlarged)
    """)
    assert held == "True" and int(enlarged) >= 0
