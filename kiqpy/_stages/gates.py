"""What is asked before a job is performed, and may keep it from being performed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kiqpy._stages.consumer import Run
from kiqpy.job import Job
from kiqpy.outcome import Outcome

# An outcome ends the run there; None lets it go on. A check takes nothing and changes nothing but
# what concerns this job: all checks are asked again whenever a gate has waited.
JobCheck = Callable[[Job], Outcome | None]

# Asked once for each run, after the checks. A gate may wait, by answering with an awaitable, and
# may take something for the run, which is given back by what it passes to `Run.hold`.
Gate = Callable[[Run], Outcome | Awaitable[Outcome | None] | None]
