"""The one file that knows everything, and decides nothing: declares, wires, starts, stops."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final, Self, cast

from kiqpy import config as options_of
from kiqpy import event
from kiqpy._beat import Heartbeat, rss_kb
from kiqpy._flow.loop import LoopRunner
from kiqpy._flow.tree import ended
from kiqpy._loops.promote import Promoter
from kiqpy._loops.rescue import Rescuer
from kiqpy._stages.audience import Audience
from kiqpy._stages.consumer import CANCEL_S
from kiqpy._stages.line import Line
from kiqpy._stages.perform import Performer
