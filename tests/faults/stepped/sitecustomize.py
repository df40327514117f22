"""On the path of processes whose clock is faked: libfaketime breaks the system call that `time.sleep` makes.

It takes every absolute time for one of the clock that it fakes, and Python sleeps until an absolute monotonic time.
"""

import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
