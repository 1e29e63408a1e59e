"""The log of a run: one JSON object a line, keys and codes only, never a name, an identifier or a path of a patient."""

import json
import os
from pathlib import Path

from tasks.clock import now


def log_event(path: Path, event: str, **fields: object) -> None:
    """Append one line; one write, so that lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": now(), "event": event, **fields}, default=str) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
