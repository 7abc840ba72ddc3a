"""`python -m engine.agents.replay --tape FILE_OR_DIR`: serve a tape, print where, go on until interrupted."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.agents.replay.server import ReplayServer
from engine.agents.replay.tape import read_tape
from engine.domain.errors import SignalboxError


def main() -> int:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m engine.agents.replay", description=__doc__)
    options.add_argument("--tape", type=Path, required=True, help="a tape, or a folder of tapes")
    options.add_argument("--port", type=int, default=0, help="of loopback; 0: any free one")
    options.add_argument("--socket", type=Path, help="a unix socket instead of a port")
    asked = options.parse_args()
    try:
        with ReplayServer(read_tape(asked.tape), port=asked.port, socket_path=asked.socket) as server:
            print(asked.socket or server.url, flush=True)  # noqa: T201 - what it is started for
            server.wait()
    except KeyboardInterrupt:
        return 0
    except (SignalboxError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
