"""A wall clock that is wrong by CHAOS_SKEW seconds, for every process that has this folder on its PYTHONPATH.

Python imports a module of this name before any other, so that `from time import time` gets the wrong clock too.
Monotonic clocks run on as they are, as on a host whose time is set wrong.
"""

import os
import time

_SKEW = float(os.environ.get("CHAOS_SKEW", "0"))
_time, _time_ns = time.time, time.time_ns

time.time = lambda: _time() + _SKEW
time.time_ns = lambda: _time_ns() + int(_SKEW * 1_000_000_000)
