"""`python -m engine.agents.replay --tape FILE_OR_DIR`: serve a tape, print where, go on until interrupted.

With `--record --upstream URL` it passes on to a live model, and writes what that says to the tape. Its key is taken
from the environment (MODEL_KEY, or what --key-in names) and written nowhere.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from engine.agents.replay.conversation import Model
from engine.agents.replay.recording import Recorder
from engine.agents.replay.server import ReplayServer
from engine.agents.replay.tape import read_tape
from engine.domain.errors import BadInput, SignalboxError


def main() -> int:
    """The command line."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also where whoever started us had interrupts ignored
        signal.signal(number, signal.default_int_handler)
    options = argparse.ArgumentParser(prog="python -m engine.agents.replay", description=__doc__)
    options.add_argument("--tape", type=Path, required=True, help="a tape, or a folder of tapes")
    options.add_argument("--port", type=int, default=0, help="of loopback; 0: any free one")
    options.add_argument("--socket", type=Path, help="a unix socket instead of a port")
    options.add_argument("--record", action="store_true", help="write the tape, from what a live model says")
    options.add_argument("--upstream", metavar="URL", help="the live model, without /v1")
    options.add_argument("--key-in", metavar="NAME", default="MODEL_KEY", help="the variable that holds its key")
    asked = options.parse_args()
    if asked.record != bool(asked.upstream):
        options.error("--record and --upstream go together")
    try:
        with ReplayServer(_model(asked), port=asked.port, socket_path=asked.socket) as server:
            print(asked.socket or server.url, flush=True)  # noqa: T201 - what it is started for
            server.wait()
    except KeyboardInterrupt:
        return 0
    except (SignalboxError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _model(asked: argparse.Namespace) -> Model:
    if not asked.record:
        return read_tape(asked.tape)
    key = os.environ.get(asked.key_in, "")
    if not key:
        raise BadInput(f"the environment has no {asked.key_in}: the key of the live model")
    if asked.tape.exists():
        raise BadInput(f"{asked.tape}: is there already; a recording overwrites none")
    return Recorder(asked.upstream, key, asked.tape)


if __name__ == "__main__":
    sys.exit(main())
