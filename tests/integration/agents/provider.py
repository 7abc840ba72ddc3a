"""A provider of models for tests: a real HTTP server that says what a test scripted, and keeps what it was asked."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-0123456789abcdefghij"
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is answered. A piece that is a function is called, and what it returns is sent: it may wait. `breaks`: the
    connection ends without an end of the answer. `length`: announce so many bytes, instead of chunks."""

    pieces: tuple[bytes | Callable[[], bytes], ...] = ()
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    breaks: bool = False
    length: int | None = None


Script = Callable[[Asked], Reply]


class Provider:
    """Its server. `script` says what is answered; `asked` is what came."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Nothing is printed."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = Asked(path=self.path, headers={k.lower(): v for k, v in self.headers.items()}, body=body)
                with provider._lock:
                    provider.asked.append(asked)
                with contextlib.suppress(OSError):
                    self._say(provider.script(asked))

            def _say(self, reply: Reply) -> None:
                self.close_connection = True
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.kind)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.length is not None:
                    self.send_header("Content-Length", str(reply.length))
                else:
                    self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for piece in reply.pieces:
                    data = piece if isinstance(piece, bytes) else piece()
                    self.wfile.write(data if reply.length is not None else b"%x\r\n%b\r\n" % (len(data), data))
                if not reply.breaks and reply.length is None:
                    self.wfile.write(b"0\r\n\r\n")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Provider]:
        """Serve until the block is left."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


# -- what providers say, in each wire format --------------------------------------------------------------------------


def whole(api: str, *, tokens_in: int = 100, tokens_out: int = 20, text: str = "hello") -> Reply:
    """An answer at once."""
    body: dict[str, Any]
    match api:
        case "anthropic":
            usage = {"input_tokens": tokens_in, "output_tokens": tokens_out}
            body = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": text}], "usage": usage}
        case "openai":
            usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
            body = {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}
        case _:
            usage = {"input_tokens": tokens_in, "output_tokens": tokens_out}
            output = [{"type": "message", "content": [{"type": "output_text", "text": text}]}]
            body = {"object": "response", "output": output, "usage": usage}
    return Reply(pieces=(json.dumps(body).encode(),))


def events(api: str, *, tokens_in: int = 100, tokens_out: int = 20, usage: bool = True) -> list[bytes]:
    """An answer as server-sent events; without `usage` it ends before the provider told."""
    said: list[dict[str, Any]]
    match api:
        case "anthropic":
            begin = {"input_tokens": tokens_in, "output_tokens": 1}
            said = [
                {"type": "message_start", "message": {"type": "message", "usage": begin}},
                {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 'say "usage"'}},
            ]
            end: dict[str, Any] = {"type": "message_delta", "usage": {"output_tokens": tokens_out}}
        case "openai":
            said = [{"choices": [{"delta": {"content": text}}], "usage": None} for text in ("one", "two")]
            end = {"choices": [], "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}}
        case _:
            said = [{"type": "response.output_text.delta", "delta": text} for text in ("one", "two")]
            counted = {"input_tokens": tokens_in, "output_tokens": tokens_out}
            end = {"type": "response.completed", "response": {"usage": counted}}
    return [f"data: {json.dumps(one)}\n\n".encode() for one in (*said, *([end] if usage else []))]


def streamed(api: str, *, usage: bool = True, breaks: bool = False) -> Reply:
    """The same as a reply."""
    return Reply(pieces=tuple(events(api, usage=usage)), kind="text/event-stream; charset=utf-8", breaks=breaks)
