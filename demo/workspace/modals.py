"""Modals: what a view must look like and each person's stack of open ones.

https://docs.slack.dev/reference/views/modal-views and https://docs.slack.dev/surfaces/modals: at most three views on
a stack, one stack a person (a newly opened one replaces what was there).
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from demo.workspace import blockkit
from demo.workspace.blockkit_elements import Problems
from demo.workspace.errors import ApiError, Json
from demo.workspace.model import Team, new_id

STACK = 3
VIEW_BYTES = 250 * 1024
KNOWN = (
    "private_metadata",
    "callback_id",
    "clear_on_close",
    "notify_on_close",
    "external_id",
    "submit_disabled",
    "submit",
    "close",
)


def checked(view: Any) -> Json:
    """A modal as the app sent it, with every missing id filled in; raises ApiError as views.open would."""
    if not isinstance(view, dict):
        raise ApiError("invalid_arguments", messages=["must be an object [json-pointer:/view]"])
    if len(json.dumps(view).encode()) > VIEW_BYTES:
        raise ApiError("view_too_large")
    p = Problems()
    if view.get("type") != "modal":
        p.add("unsupported type: this workspace shows modals only", "/view/type")
    p.fields("/view", view, ("title", "blocks"), KNOWN)
    for name in ("title", "submit", "close"):
        if view.get(name) is not None:
            p.text(f"/view/{name}", view[name], most=24, plain=True)
    for name, most in (("private_metadata", 3000), ("callback_id", 255), ("external_id", 255)):
        if view.get(name) is not None:
            p.string(f"/view/{name}", view[name], most=most)
    wrong, _ = blockkit.problems(view.get("blocks"), "modal", at="/view/blocks")
    blocks = view.get("blocks")
    kinds = [b.get("type") for b in blocks if isinstance(b, dict)] if isinstance(blocks, list) else []
    if "input" in kinds and not view.get("submit"):
        p.add("missing required field: submit", "/view")
    if p.found or wrong:
        raise ApiError("invalid_arguments", messages=[*p.found, *wrong])
    return {**view, "blocks": blockkit.with_ids(view["blocks"])}


class Modals:
    """Which views are open, for whom. The last of a stack is what the person sees."""

    def __init__(self, team: Team) -> None:
        self._team = team
        self._stacks: dict[str, list[Json]] = {}

    def stack(self, user: str) -> list[Json]:
        """Open views of a person, the visible one last."""
        return self._stacks.get(user, [])

    def find(self, *, view_id: str = "", external_id: str = "") -> tuple[str, Json]:
        """Who sees it, and the view; raises ApiError("not_found")."""
        for user, stack in self._stacks.items():
            for view in stack:
                if view_id == view["id"] or (external_id and external_id == view["external_id"]):
                    return user, view
        raise ApiError("not_found")

    def open(self, user: str, view: Any) -> Json:
        """Show a view to a person, in place of whatever was open."""
        return self._add(user, checked(view), [])

    def push(self, user: str, view: Any) -> Json:
        """Put a view on top of the open ones."""
        stack = self.stack(user)
        if len(stack) >= STACK:
            raise ApiError("push_limit_reached")
        return self._add(user, checked(view), stack)

    def update(self, user: str, old: Json, view: Any) -> Json:
        """Replace an open view; it keeps its id and its place."""
        new = self._stored(checked(view), old["id"], old["root_view_id"], old["previous_view_id"])
        stack = self._stacks[user]
        stack[[v["id"] for v in stack].index(old["id"])] = new
        self._team.changed()
        return new

    def close(self, user: str, view_id: str) -> None:
        """Take one view off; the one below shows again."""
        self._stacks[user] = [view for view in self.stack(user) if view["id"] != view_id]
        self._team.changed()

    def clear(self, user: str) -> None:
        """Close all views of a person."""
        self._stacks[user] = []
        self._team.changed()

    def _add(self, user: str, view: Json, below: list[Json]) -> Json:
        external = view.get("external_id")
        if external and any(v["external_id"] == external for stack in self._stacks.values() for v in stack):
            raise ApiError("duplicate_external_id")
        view_id = new_id("V")
        root, previous = (below[0]["id"], below[-1]["id"]) if below else (view_id, None)
        stored = self._stored(view, view_id, root, previous)
        self._stacks[user] = [*below, stored]
        self._team.changed()
        return stored

    def _stored(self, view: Json, view_id: str, root: str, previous: str | None) -> Json:
        """The view object of https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload."""
        return {
            "id": view_id,
            "team_id": self._team.id,
            "type": "modal",
            "title": view["title"],
            "submit": view.get("submit"),
            "close": view.get("close"),
            "blocks": view["blocks"],
            "private_metadata": view.get("private_metadata") or "",
            "callback_id": view.get("callback_id") or "",
            "external_id": view.get("external_id") or "",
            "state": {"values": {}},
            "hash": f"{secrets.randbelow(10**10):010d}.{secrets.token_hex(4)}",
            "clear_on_close": bool(view.get("clear_on_close")),
            "notify_on_close": bool(view.get("notify_on_close")),
            "root_view_id": root,
            "previous_view_id": previous,
            "app_id": self._team.app_id,
            "app_installed_team_id": self._team.id,
            "bot_id": self._team.bot_id,
        }
