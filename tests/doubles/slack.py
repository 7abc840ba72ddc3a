"""A Slack that answers the client's calls from memory, for the sender's tests; and signed requests, for handlers'.

`FakeSlack` is the real `AsyncWebClient` with its one transport method replaced: what our code says to the SDK is what
is judged here. It keeps channels and messages, and can be told to fail the next calls of a method.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

SECRET = "a-signing-secret-for-tests"
BOT = "U0BOT"
Json = dict[str, Any]


@dataclass
class Fault:
    """What the next call of a method meets. `carried_out`: Slack did it all the same, only the answer was lost."""

    error: str | BaseException
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    carried_out: bool = False


@dataclass
class FakeChannel:
    """A channel as Slack keeps it."""

    id: str
    name: str
    creator: str = BOT
    created: float = field(default_factory=time.time)
    archived: bool = False
    topic: str = ""
    members: list[str] = field(default_factory=list)
    messages: list[Json] = field(default_factory=list)


class FakeSlack(AsyncWebClient):
    """`calls` are the methods that arrived, in order, with their arguments."""

    def __init__(self) -> None:
        super().__init__(token="xoxb-test")
        self.channels: list[FakeChannel] = []
        self.calls: list[tuple[str, Json]] = []
        self.faults: dict[str, list[Fault]] = {}
        self._ts = 1_800_000_000
        self._made = 0

    def named(self, name: str) -> FakeChannel:
        """The channel of this name."""
        return next(channel for channel in self.channels if channel.name == name)

    def add(self, channel: FakeChannel) -> FakeChannel:
        """A channel that is there already."""
        self.channels.append(channel)
        return channel

    def asked(self, method: str) -> list[Json]:
        """The arguments of every call of this method."""
        return [args for called, args in self.calls if called == method]

    def fail(self, method: str, *faults: Fault) -> None:
        """The next calls of this method fail so."""
        self.faults.setdefault(method, []).extend(faults)

    async def api_call(self, api_method: str, **request: Any) -> AsyncSlackResponse:
        args = dict(request.get("json") or request.get("params") or {})
        self.calls.append((api_method, args))
        waiting = self.faults.get(api_method) or []
        fault = waiting.pop(0) if waiting else None
        if fault is None or fault.carried_out:
            answer = self._carry_out(api_method, args)
            if fault is None:
                return self._answered(answer, 200, {})
        if isinstance(fault.error, BaseException):
            raise fault.error
        return self._answered({"ok": False, "error": fault.error}, fault.status, fault.headers)

    def _answered(self, data: Json, status: int, headers: Mapping[str, str]) -> AsyncSlackResponse:
        response = AsyncSlackResponse(
            client=self, http_verb="POST", api_url="", req_args={}, data=data, headers=dict(headers), status_code=status
        )
        if not data.get("ok"):
            response.validate()  # type: ignore[no-untyped-call]  # slack_sdk leaves it untyped; it raises
        return response

    def _carry_out(self, method: str, args: Json) -> Json:
        answer: Json = getattr(self, "_" + method.replace(".", "_"))(args)
        return answer if "ok" in answer else {"ok": True, **answer}

    def _channel(self, args: Json) -> FakeChannel | None:
        return next((c for c in self.channels if c.id == args["channel"]), None)

    def _auth_test(self, _args: Json) -> Json:
        return {"user_id": BOT}

    def _conversations_create(self, args: Json) -> Json:
        if any(channel.name == args["name"] for channel in self.channels):
            return {"ok": False, "error": "name_taken"}
        self._made += 1
        channel = self.add(FakeChannel(id=f"C0{self._made:06d}", name=args["name"]))
        return {"channel": {"id": channel.id, "name": channel.name}}

    def _conversations_list(self, _args: Json) -> Json:
        listed = [
            {"id": c.id, "name": c.name, "creator": c.creator, "created": c.created}
            for c in self.channels
            if not c.archived
        ]
        return {"channels": listed, "response_metadata": {"next_cursor": ""}}

    def _conversations_join(self, args: Json) -> Json:
        return {} if self._channel(args) else {"ok": False, "error": "channel_not_found"}

    def _conversations_setTopic(self, args: Json) -> Json:  # noqa: N802  Slack's name
        channel = self._channel(args)
        assert channel is not None
        channel.topic = args["topic"]
        return {}

    def _conversations_invite(self, args: Json) -> Json:
        channel = self._channel(args)
        assert channel is not None
        users = args["users"].split(",")
        if "U0NOBODY" in users:
            return {"ok": False, "error": "user_not_found"}
        channel.members += users
        return {}

    def _chat_postMessage(self, args: Json) -> Json:  # noqa: N802  Slack's name
        channel = self._channel(args)
        if channel is None or channel.archived:
            return {"ok": False, "error": "is_archived" if channel else "channel_not_found"}
        self._ts += 1
        message = {**args, "ts": f"{self._ts}.000100"}
        channel.messages.append(message)
        return {"channel": channel.id, "ts": message["ts"]}

    def _chat_update(self, args: Json) -> Json:
        channel = self._channel(args)
        if channel is None or channel.archived:
            return {"ok": False, "error": "is_archived" if channel else "channel_not_found"}
        for message in channel.messages:
            if message["ts"] == args["ts"]:
                message.update(args)
                return {"channel": channel.id, "ts": args["ts"]}
        return {"ok": False, "error": "message_not_found"}

    def _chat_getPermalink(self, args: Json) -> Json:  # noqa: N802  Slack's name
        channel = self._channel(args)
        if channel is None or all(message["ts"] != args["message_ts"] for message in channel.messages):
            return {"ok": False, "error": "message_not_found"}
        return {"permalink": f"https://box.test/archives/{channel.id}/p{args['message_ts'].replace('.', '')}"}

    def _conversations_history(self, args: Json) -> Json:
        channel = self._channel(args)
        if channel is None:
            return {"ok": False, "error": "channel_not_found"}
        return {"messages": [m for m in channel.messages if "thread_ts" not in m], "has_more": False}

    def _conversations_replies(self, args: Json) -> Json:
        channel = self._channel(args)
        assert channel is not None
        return {"messages": [m for m in channel.messages if args["ts"] in {m["ts"], m.get("thread_ts")}]}


def signed(body: str, *, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """The headers of a request that Slack signed: https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    stamp = str(int(time.time() if at is None else at))
    signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body)
    assert signature is not None
    return {
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": signature,
        "Content-Type": "application/x-www-form-urlencoded",
    }


def interaction(payload: Json) -> str:
    """The body of an interaction request."""
    return urlencode({"payload": json.dumps(payload)})


def _common() -> Json:
    return {
        "user": {"id": "U0ALICE1", "username": "alice", "name": "alice", "team_id": "T0TEAM"},
        "api_app_id": "A0APP",
        "token": "legacy",
        "team": {"id": "T0TEAM", "domain": "test"},
        "enterprise": None,
        "is_enterprise_install": False,
        "trigger_id": "111.222.abc",
        "a_field_of_next_year": {"nobody": ["knows", "it"]},
    }


def click(action_id: str, value: str = "", *, response_url: str = "", **action: Any) -> Json:
    """https://docs.slack.dev/reference/interaction-payloads/block_actions-payload"""
    pressed = {
        "type": "button",
        "action_id": action_id,
        "block_id": "b1",
        "text": {"type": "plain_text", "text": "Press", "emoji": True},
        "value": value,
        "action_ts": "1800000099.123456",
        **action,
    }
    return {
        "type": "block_actions",
        **_common(),
        "container": {
            "type": "message",
            "message_ts": "1800000001.000100",
            "channel_id": "C0INC12",
            "is_ephemeral": False,
        },
        "channel": {"id": "C0INC12", "name": "inc-12"},
        "message": {"type": "message", "ts": "1800000001.000100", "text": "Approval needed"},
        "state": {"values": {}},
        "response_url": response_url,
        "actions": [pressed],
    }


def submission(callback_id: str, metadata: str, values: Json, *, view_hash: str = "156772938.1827394") -> Json:
    """https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload"""
    return {
        "type": "view_submission",
        **_common(),
        "view": {
            "id": "V0VIEW",
            "team_id": "T0TEAM",
            "type": "modal",
            "blocks": [],
            "private_metadata": metadata,
            "callback_id": callback_id,
            "state": {"values": values},
            "hash": view_hash,
            "title": {"type": "plain_text", "text": "Form", "emoji": True},
            "root_view_id": "V0VIEW",
            "app_id": "A0APP",
            "bot_id": "B0BOT",
        },
        "response_urls": [],
    }


def command(text: str, *, trigger: str = "333.444.def", channel: str = "C0OTHER") -> str:
    """https://docs.slack.dev/interactivity/implementing-slash-commands#app_command_handling"""
    return urlencode(
        {
            "token": "legacy",
            "team_id": "T0TEAM",
            "team_domain": "test",
            "channel_id": channel,
            "channel_name": "general",
            "user_id": "U0ALICE1",
            "user_name": "alice",
            "command": "/signalbox",
            "text": text,
            "api_app_id": "A0APP",
            "is_enterprise_install": "false",
            "response_url": "https://hooks.slack.test/commands/1",
            "trigger_id": trigger,
            "a_field_of_next_year": "nobody knows it",
        }
    )
