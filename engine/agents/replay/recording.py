"""A model that passes what it is asked on to a live one, and writes down what that said: a tape to be read and trimmed.

Of a request only lines of what was said to the model are kept, as what a turn is expected to answer; no header, and the
key in no text. What a model thinks is not asked for, since a tape could not send it back.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from engine.agents.replay.conversation import Fault, Request, Turn, with_ids
from engine.agents.replay.tape import FORMAT
from engine.agents.replay.wires import WIRES
from engine.agents.replay.wires.wire import Wire, compact
from engine.domain.errors import BadInput, Unavailable
from engine.domain.gate import Json

TIMEOUT_S = 300.0
_MADE_ANEW = re.compile(r"[0-9a-f]{12,}|[A-Za-z0-9_-]{32,}")
""" An id, a digest, the boundary of a block of data: the next run has another. """
MOST_BYTES = 8 << 20
_EXPECTED = 200
""" Characters of one message that a recorded turn expects; a person shortens them to what matters. """


@dataclass
class Recorder:
    """Records the conversations that go through it, in the format that each comes in, and told apart by how they begin.

    `upstream`: the base URL of the live model, without `/v1`. `tape`: the file to write, anew at each turn.
    """

    upstream: str
    key: str
    tape: Path
    _heard: dict[tuple[str, str], list[Json]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Turn | Fault:
        """What the live model says. Raises Unavailable: it cannot be reached; BadInput: it said what is no answer."""
        wire = WIRES[request.path]
        status, body = self._ask(wire, wire.alone(request.body))
        if status != 200:
            told = self._clean(body.decode(errors="replace"))[:500]
            return Fault(status, f"the live model answered {status}: {told}")
        turn = with_ids(wire.heard(body), len(request.turns) + 1)
        self._keep(request, turn)
        return turn

    def _ask(self, wire: Wire, body: bytes) -> tuple[int, bytes]:
        place = urlsplit(self.upstream)
        if place.scheme not in {"http", "https"} or place.hostname is None:
            raise BadInput(f"{self.upstream}: not the URL of a model (http or https)")
        if place.scheme == "https":
            context = ssl.create_default_context()
            line: http.client.HTTPConnection = http.client.HTTPSConnection(
                place.hostname, place.port, timeout=TIMEOUT_S, context=context
            )
        else:
            line = http.client.HTTPConnection(place.hostname, place.port, timeout=TIMEOUT_S)
        headers = {"Content-Type": "application/json", **wire.bearing(self.key)}
        try:
            line.request("POST", place.path.rstrip("/") + wire.path, body, headers)
            answer = line.getresponse()
            return answer.status, answer.read(MOST_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{place.hostname}: the live model does not answer: {error}") from error
        finally:
            line.close()

    def _keep(self, request: Request, turn: Turn) -> None:
        first = next(iter(request.history), None)
        begins = request.instructions, first.text if first is not None else ""
        with self._lock:
            turns = self._heard.setdefault(begins, [])
            del turns[len(request.turns) :]  # a request that was made again
            turns.append(self._recorded(request, turn))
            self._write()

    def _recorded(self, request: Request, turn: Turn) -> Json:
        expects: list[Json] = [self._line(entry.text) for entry in request.latest]
        recorded: dict[str, Json] = {"expects": [each for each in expects if each] or ["/^/"]}
        if turn.text:
            recorded["says"] = self._clean(turn.text)
        if turn.calls:
            recorded["calls"] = [
                {"id": call.id, "tool": call.name, "args": json.loads(self._clean(compact(dict(call.args))))}
                for call in turn.calls
            ]
        if turn.cut:
            recorded["cut"] = True
        recorded["usage"] = {"input": turn.input_tokens, "output": turn.output_tokens}
        return recorded

    def _clean(self, text: str) -> str:
        return text.replace(self.key, "(redacted)")

    def _line(self, text: str) -> str:
        """The longest line of what was said, since it tells most; never one that reads as a pattern."""
        lines = [line for line in text.splitlines() if self._lasts(line)]
        return max(lines, key=len)[:_EXPECTED].strip().strip("/") if lines else ""

    def _write(self) -> None:
        conversations = [{"key": self._key_of(begun), "turns": turns} for begun, turns in self._heard.items()]
        tape = {"format": FORMAT, "conversations": conversations}
        beside = self.tape.with_suffix(".part")
        beside.write_text(yaml.safe_dump(tape, sort_keys=False, allow_unicode=True, width=110))
        beside.replace(self.tape)

    def _key_of(self, begun: tuple[str, str]) -> str:
        """The first line that no other conversation began with; without one, a person must find the difference."""
        others = "\n".join(text for other in self._heard if other != begun for text in other)
        lines = [line.strip() for text in begun for line in text.splitlines() if line.strip()]
        return next((line for line in lines if line not in others and self._lasts(line)), lines[0])

    def _lasts(self, line: str) -> bool:
        """Whether the next run says the same, and the tape may."""
        return self._clean(line) == line and _MADE_ANEW.search(line) is None
