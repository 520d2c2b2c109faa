"""Our own OpenAPI document against the real application: every check of schemathesis.

The document says what may be asked and what is answered; generated requests, good ones and broken
ones, find where that is not so. Without a socket: a request is one call of the application.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from e2e.in_process import InProcess, running
