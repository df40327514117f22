"""Keeping the memory of a template in common with its forks, and cheap to fork.

A fork shares each page with its template until either writes to it; then the kernel copies it. Three things make a
Python process write all over memory whose content it never changes, or make its page tables costly, and each is undone
before the first fork:

* Whoever touches an object counts a reference in it. Since Python 3.12 there are immortal objects, of which references
  are not counted: here all there are become so. Those of a template live as long as its process in any case.
* New objects go to free places between old ones. They are taken, so that new objects share pages with each other.
* A fork gets a page table of its own and gives it back at its end, which for 100 MiB in small pages takes longer than
  many a task. The kernel is asked for big ones; what a fork writes to is still copied by the 4 KiB.

Where a Python or a kernel does not know one of these, that one is left out, and forks only cost more.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from air_executor import processes

_MAPS = Path("/proc/self/maps")

_IMMORTAL = 0xFFFF_FFFF
"""The reference count of an immortal object of CPython 3.12 and 3.13 on 64 bits, in the first 32 bits of the object."""

_LARGEST_SMALL, _STEP = 512, 16
"""Bytes: CPython has places of each multiple of the second up to the first, and asks the C library for all above."""
_EMPTY_BYTES = sys.getsizeof(b"")
_NEW_IN_A_ROW = 3
"""So many places beyond all memory of before, one after the other, tell that none is left within it."""
_MOST_TAKEN = 64 * 2**20
"""Bytes; a few MiB are usual."""

_BIG = 2 * 2**20
"""Bytes of a big page: of x86-64, and of ARM where small ones have 4 KiB."""
_MADV_COLLAPSE = 25
"""Of Linux 6.1 and later; Python's `mmap` has no name for it."""

_AT_ONCE = 500
"""Objects of which is asked together what they refer to: many refer to the same, and all at once take much memory."""

_taken: list[object] = []


def keep_unwritten() -> None:
    """Let whatever there is by now be written to no more, just for being used."""
    _take_free_places()
    _make_immortal()


def enlarge_pages() -> int:
    """Put this process's own memory into big pages, as far as the kernel does that; returns how many there are."""
    advise = processes.libc().madvise
    return sum(
        advise(ctypes.c_void_p(address), ctypes.c_size_t(_BIG), _MADV_COLLAPSE) == 0
        for start, end in _own_memory()
        for address in range(-(-start // _BIG) * _BIG, end - _BIG + 1, _BIG)
    )


def _own_memory() -> Iterator[tuple[int, int]]:
    """From which address to which there is memory that is of no file; the stack aside."""
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        addresses, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights == "rw-p" and inode == "0" and name != ["[stack]"]:
            start, end = addresses.split("-")
            yield int(start, 16), int(end, 16)


# --- Free places ---


def _take_free_places() -> None:
    memory = list(_own_memory())
    taken = 0
    for make, size in _makers():
        new = 0
        while memory and new < _NEW_IN_A_ROW and taken < _MOST_TAKEN:
            each = make()
            _taken.append(each)
            taken += size
            new = 0 if any(start <= id(each) < end for start, end in memory) else new + 1


def _makers() -> Iterator[tuple[Callable[[], object], int]]:
    """What makes an object in a place of each size. Bytes are too large for the two smallest."""
    yield object, _STEP
    yield lambda: float("0.5"), 2 * _STEP
    for size in range(3 * _STEP, _LARGEST_SMALL + 1, _STEP):
        yield lambda length=size - _EMPTY_BYTES: bytes(length), size  # type: ignore[misc]


# --- Immortal objects ---


def _knows_immortals() -> bool:
    """Whether this Python has immortal objects in the way that is meant here: `None` is one."""
    return (
        sys.implementation.name == "cpython"
        and (3, 12) <= sys.version_info[:2] <= (3, 13)
        and sys.maxsize > 2**32
        and ctypes.c_uint32.from_address(id(None)).value == _IMMORTAL
    )


def _make_immortal() -> None:
    """Whatever the garbage collector knows, and all that is reached from there."""
    if not _knows_immortals():
        return
    at = ctypes.c_uint32.from_address
    found: list[object] = gc.get_objects()
    for each in found:
        at(id(each)).value = _IMMORTAL
    while found:
        some, found[-_AT_ONCE:] = found[-_AT_ONCE:], []
        for address, each in {id(each): each for each in gc.get_referents(*some)}.items():
            count = at(address)
            if count.value != _IMMORTAL:
                count.value = _IMMORTAL
                found.append(each)
