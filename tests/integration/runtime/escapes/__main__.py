"""In the VM: `python3 -m THIS MODULE` makes every attempt of a module; `python3 -m THIS bombs NAME` that one."""

from __future__ import annotations

import importlib
import sys
import time

from tests.integration.runtime.escapes import attempt, bombs

if sys.argv[1] == "bombs":
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    time.sleep(0.5)  # so that this is heard before the VM breaks
    bombs.BOMBS[sys.argv[2]]()
else:
    importlib.import_module(f"tests.integration.runtime.escapes.{sys.argv[1]}")
    attempt.make_all(attempt.ATTEMPTS)
