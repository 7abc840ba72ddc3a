"""OpenAI's Codex CLI: what it must be told so that it works in a step's VM, and what its report says. Used by `cli`.

Its own sandbox and questions are off: the VM is the sandbox, and nobody is there to answer. It asks our model proxy
only, and calls nobody else (plugins and apps would be looked for at their maker's).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from engine.agents.transcript import Transcript
from engine.domain.agent import Api
from engine.domain.gate import Json

API = Api.OPENAI_RESPONSES
TOKEN = "SIGNALBOX_TOKEN"  # noqa: S105 - the name of a variable
COMMAND = "codex exec --strict-config --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox --json -"
""" It reads its prompt from stdin, and reports in lines of JSON. """

HOME = "CODEX_HOME"
CONFIG = "config.toml"
_CONFIG = """\
model = {model}
model_provider = "signalbox"
developer_instructions = {instructions}
approval_policy = "never"
sandbox_mode = "danger-full-access"
web_search = "disabled"
check_for_update_on_startup = false
project_doc_max_bytes = 0

[model_providers.signalbox]
name = "signalbox"
base_url = {url}
wire_api = "responses"
env_key = "{token}"
request_max_retries = 2
stream_max_retries = 2

[shell_environment_policy]
exclude = ["{token}"]

[agents]
enabled = false

[features]
plugins = false
apps = false
goals = false

[analytics]
enabled = false

[feedback]
enabled = false

[history]
persistence = "none"
"""


def config(*, model: str, url: str, instructions: str) -> str:
    """Its configuration. What lies in the VM (AGENTS.md, a user's own configuration) never becomes instructions."""
    return _CONFIG.format(model=_toml(model), url=_toml(url), instructions=_toml(instructions), token=TOKEN)


class Report:
    """What it reports, line by line: into the transcript. `last`: what the model said last; `error`: the last one.

    Whatever a line says, it is the VM's word and no more than shown.
    """

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self.last = self.error = ""

    def line(self, line: str) -> None:
        """One line; one that is no report is shown as it is."""
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            self._transcript.note(line)
            return
        item = event.get("item")
        if isinstance(item, dict):
            self._item(_text(event.get("type")), item)
        elif event.get("type") in {"error", "turn.failed"}:
            self._failed(event)

    def _item(self, kind: str, item: Mapping[str, Json]) -> None:
        done = kind == "item.completed"
        match item.get("type"):
            case "agent_message" if done:
                self.last = _text(item.get("text"))
                self._transcript.said(self.last)
            case "command_execution" if done:
                self._transcript.answer(f"exit code {item.get('exit_code')}\n{_text(item.get('aggregated_output'))}")
            case "command_execution" if kind == "item.started":
                self._transcript.does(f"run: {_text(item.get('command'))}")
            case "file_change" if done:
                self._transcript.does(f"change: {json.dumps(item.get('changes'), ensure_ascii=False)}")

    def _failed(self, event: Mapping[str, Json]) -> None:
        within = event.get("error")
        said = within.get("message") if isinstance(within, dict) else event.get("message")
        if _text(said) != self.error:
            self.error = _text(said)
            self._transcript.note(f"codex: {self.error}")


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _toml(text: str) -> str:
    """A basic string of TOML: a text without control characters is written there as in JSON."""
    return json.dumps(text, ensure_ascii=False)
