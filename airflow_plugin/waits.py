"""Waiting for the end of a job, in a task and in the triggerer: one watch of a home for all waits of a process."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from air_executor.awaiting import JobWatch


def wait(watch: JobWatch, name: str, attempt: int, seconds: float | None) -> bool:
    """Wait for the end of an attempt of a job; False if it did not come in time.

    The handlers of signals run meanwhile, as in any wait of the main thread.
    """
    over = threading.Event()

    def tell(_: str) -> None:
        over.set()

    watch.add(name, tell, attempt)
    try:
        return over.wait(seconds)
    finally:
        watch.discard(name, tell)


async def wait_async(watch: JobWatch, name: str, attempt: int | None, seconds: float | None) -> bool:
    """The same for an event loop; costs nothing while nothing ends."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def note() -> None:
        if not over.done():
            over.set_result(None)

    def tell(_: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(note)

    watch.add(name, tell, attempt)
    try:
        await asyncio.wait_for(over, seconds)
        return True
    except asyncio.TimeoutError:
        return False
    finally:
        watch.discard(name, tell)
