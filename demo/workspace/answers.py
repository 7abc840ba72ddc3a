"""What the app answers outside the Web API: the body of an acknowledgement, and messages to a response_url.

https://docs.slack.dev/interactivity/handling-user-interaction/ and https://docs.slack.dev/surfaces/modals
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from demo.workspace.api import Api
from demo.workspace.api_chat import TEXT, content, replace
from demo.workspace.args import Args
from demo.workspace.delivery import Answer
from demo.workspace.errors import ApiError, Json
from demo.workspace.journal import Journal
from demo.workspace.model import Channel, Message
from demo.workspace.onetime import ResponseUrl

TROUBLE = "We had some trouble connecting. Try again?"
REFUSED = "dispatch_failed"
STATUS = {"expired_url": 404, "used_url": 404, "channel_not_found": 404}


class Answers:
    """Turns answers into messages and views."""

    def __init__(self, api: Api, journal: Journal) -> None:
        self._api = api
        self._team = api.team
        self._journal = journal

    def url(self, user: str, channel: str, ts: str | None = None) -> str:
        """A fresh response_url."""
        return f"{self._team.url}/hooks/{self._api.once.response_key(user, channel, ts)}"

    def whisper(self, channel: Channel, user: str, text: str) -> None:
        """A line from Slack itself, for one person."""
        ts = self._team.next_ts()
        self._team.post(channel, Message(ts=ts, user="USLACKBOT", text=text, visible_to=user))

    # -- acknowledgements

    def of_command(self, channel: Channel, user: str, answer: Answer) -> str:
        """Show the body of a command's acknowledgement; returns why not when it cannot be shown."""
        if not answer.body.strip():
            return ""
        value = answer.json()
        try:
            self._post(channel, user, None, value if isinstance(value, dict) else {"text": answer.body})
        except ApiError as error:
            self._journal.call("(ack of a command)", {}, 200, error.answer())
            return REFUSED
        return ""

    def of_submission(self, user: str, view: Json, answer: Answer) -> tuple[str, dict[str, str]]:
        """Do what `response_action` says; no body closes the view. Returns what the person is told, and errors."""
        value = answer.json() if answer.body.strip() else {}
        if not isinstance(value, dict):
            return TROUBLE, {}
        if all(open_view["id"] != view["id"] for open_view in self._api.modals.stack(user)):
            return "", {}
        try:
            return "", self._act(user, view, value)
        except ApiError as error:
            self._journal.call("(ack of a view_submission)", value, 200, error.answer())
            return TROUBLE, {}

    def _act(self, user: str, view: Json, value: Json) -> dict[str, str]:
        modals, action = self._api.modals, value.get("response_action")
        if action is None:
            modals.close(user, view["id"])
        elif action == "clear":
            modals.clear(user)
        elif action == "update":
            modals.update(user, view, value.get("view"))
        elif action == "push":
            modals.push(user, value.get("view"))
        elif action == "errors":
            return self._errors(view, value.get("errors"))
        else:
            raise ApiError("invalid_arguments", messages=[f"unknown response_action {action!r}"])
        return {}

    @staticmethod
    def _errors(view: Json, errors: Any) -> dict[str, str]:
        """Errors belong to input blocks; Slack shows a general failure for anything else."""
        inputs = {block["block_id"] for block in view["blocks"] if block["type"] == "input"}
        if not isinstance(errors, dict) or not errors or not errors.keys() <= inputs:
            raise ApiError("invalid_arguments", messages=[f"errors must name input blocks: {sorted(inputs)}"])
        return {block: str(text) for block, text in errors.items()}

    # -- response_url

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """POST /hooks/{key}: a message for whoever caused the interaction, or for all."""
        body = await request.read()
        value: Any = None
        try:
            url = self._api.once.respond(request.match_info["key"])
            try:
                value = json.loads(body)
            except ValueError:
                raise ApiError("invalid_payload") from None
            if not isinstance(value, dict):
                raise ApiError("invalid_payload")
            channel = self._team.channels.get(url.channel)
            if channel is None:
                raise ApiError("channel_not_found")
            self._post(channel, url.user, url, value)
        except ApiError as error:
            args = value if isinstance(value, dict) else {}
            self._journal.call("(response_url)", args, STATUS.get(error.code, 400), error.answer())
            return web.json_response(error.answer(), status=STATUS.get(error.code, 400))
        self._journal.call("(response_url)", value, 200, {"ok": True})
        return web.Response(text="ok")

    def _post(self, channel: Channel, user: str, url: ResponseUrl | None, value: Json) -> None:
        args = Args(value)
        source = channel.message(url.ts) if url is not None and url.ts else None
        if args.flag("delete_original"):
            if source is not None:
                channel.messages.remove(source)
            self._team.changed()
            return
        text, blocks = content(args)
        if args.flag("replace_original") and source is not None:
            replace(self._team, source, text, blocks)
            self._team.changed()
            return
        for_all = args.text("response_type", "ephemeral") == "in_channel"
        thread = source.thread_ts if source is not None and source.is_reply else None
        message = Message(
            ts=self._team.next_ts(),
            user=self._team.bot.id,
            text=text[:TEXT],
            blocks=blocks or [],
            from_app=True,
            thread_ts=args.text("thread_ts") or thread,
            visible_to=None if for_all else user,
        )
        self._team.post(channel, message)
