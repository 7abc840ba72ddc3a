"""Slack's mrkdwn to safe HTML: https://docs.slack.dev/messaging/formatting-message-text

Message text is untrusted. Everything is escaped when it becomes HTML; the only tags are those written here, and the
only links are http, https and mailto.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup, escape

from demo.workspace.icons import with_icons
from demo.workspace.model import Team

PRE = re.compile(r"```\n?(.*?)\n?```", re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`|<([^<>\n]+)>|(https?://[^\s<>|]+[^\s<>|.,;:!?)\]}'\"*_~])")
EMPHASIS = re.compile(
    r"(?<![\w*])\*(?P<b>\S|\S[^*\n]*\S)\*(?![\w*])"
    r"|(?<![\w_])_(?P<i>\S|\S[^_\n]*\S)_(?![\w_])"
    r"|(?<![\w~])~(?P<s>\S|\S[^~\n]*\S)~(?![\w~])"
)
QUOTE = re.compile(r"(?:>|&gt;) ?(.*)")
BULLET = re.compile(r"\s*(?:[•◦▪-]|(?P<number>\d+)\.) +(?P<text>.*)")
SLOT = re.compile("\ue000(\\d+)\ue001")
SAFE_LINK = re.compile(r"(?:https?://|mailto:)[^\s\"'<>]+", re.IGNORECASE)

OPEN = {"": Markup(""), "ul": Markup("<ul>"), "blockquote": Markup("<blockquote>")}
CLOSE = {"": Markup(""), "ul": Markup("</ul>"), "blockquote": Markup("</blockquote>")}
TAGS = {"b": Markup("<b>{}</b>"), "i": Markup("<i>{}</i>"), "s": Markup("<s>{}</s>")}


def unescaped(text: str) -> str:
    """Undo the three escapes that Slack knows."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def plain(text: str) -> Markup:
    """A plain_text object: emoji, nothing else."""
    return with_icons(unescaped(text))


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders for one reader: their own mentions stand out."""

    team: Team
    me: str

    def html(self, text: str) -> Markup:
        """A mrkdwn text, with blocks of code, quotes and lists."""
        clean = text.replace("\ue000", "").replace("\ue001", "")
        parts: list[Markup] = []
        last = 0
        for match in PRE.finditer(clean):
            parts.append(self._lines(clean[last : match.start()].removesuffix("\n")))
            parts.append(Markup("<pre>{}</pre>").format(unescaped(self._spoken(match[1]))))
            last = match.end()
            last += clean[last : last + 1] == "\n"
        parts.append(self._lines(clean[last:]))
        return Markup("").join(parts)

    def markdown(self, text: str) -> Markup:
        """A markdown block, roughly: bold and headings are brought to mrkdwn."""
        lines = [re.sub(r"^#{1,6} +(.*)$", r"*\1*", line) for line in text.replace("**", "*").split("\n")]
        return self.html("\n".join(lines))

    def _lines(self, text: str) -> Markup:
        out: list[Markup] = []
        kind = ""
        for line in text.split("\n") if text else ():
            quote, bullet = QUOTE.match(line), BULLET.fullmatch(line)
            now = "blockquote" if quote else "ul" if bullet else ""
            if now != kind:
                out += CLOSE[kind], OPEN[now]
            elif not now and out:
                out.append(Markup("<br>"))
            if quote:
                out.append(Markup("<div>{}</div>").format(self.inline(quote[1])))
            elif bullet and bullet["number"]:
                item = Markup('<li class="number"><span>{}.</span> {}</li>')
                out.append(item.format(bullet["number"], self.inline(bullet["text"])))
            elif bullet:
                out.append(Markup("<li>{}</li>").format(self.inline(bullet["text"])))
            else:
                out.append(self.inline(line))
            kind = now
        out.append(CLOSE[kind])
        return Markup("").join(out)

    def inline(self, text: str) -> Markup:
        """One line. Code, references and bare links are put aside first, so that emphasis cannot cut through them."""
        aside: list[Markup] = []

        def keep(match: re.Match[str]) -> str:
            if match[1] is not None:
                aside.append(Markup("<code>{}</code>").format(unescaped(self._spoken(match[1]))))
            elif match[2] is not None:
                aside.append(self._reference(match[2]))
            else:
                aside.append(_link(unescaped(match[3]), unescaped(match[3])))
            return f"\ue000{len(aside) - 1}\ue001"

        def back(match: re.Match[str]) -> Markup:
            return aside[int(match[1])]

        return Markup(SLOT.sub(back, _emphasised(INLINE.sub(keep, text))))  # noqa: S704  every part is escaped above

    def _reference(self, inner: str) -> Markup:
        target, _, label = inner.partition("|")
        if SAFE_LINK.fullmatch(unescaped(target)):
            return _link(unescaped(target), unescaped(label or target))
        said = self._said(target, label)
        if said is None:
            return escape(f"<{unescaped(inner)}>")
        if target.startswith("!date^"):
            return escape(said)
        css = "mention me" if target == f"@{self.me}" or target.startswith("!") else "mention"
        return Markup('<span class="{}">{}</span>').format(css, said)

    def _said(self, target: str, label: str) -> str | None:
        if target.startswith("@"):
            found = {person.id: person.name for person in self.team.everybody()}.get(target[1:])
            return f"@{found or label or target[1:]}"
        if target.startswith("#"):
            channel = self.team.channels.get(target[1:])
            return f"#{channel.name if channel else label or target[1:]}"
        if target in ("!here", "!channel", "!everyone"):
            return f"@{target[1:]}"
        if target.startswith("!"):
            return unescaped(label or target[1:])
        return None

    def _spoken(self, text: str) -> str:
        """References inside code, as words."""

        def word(match: re.Match[str]) -> str:
            target, _, label = match[1].partition("|")
            return self._said(target, label) or (label or target if SAFE_LINK.fullmatch(target) else match[0])

        return re.sub(r"<([^<>\n]+)>", word, text)


def _link(url: str, label: str) -> Markup:
    if not SAFE_LINK.fullmatch(url):
        return escape(label)
    return Markup('<a href="{}" target="_blank" rel="noopener noreferrer nofollow">{}</a>').format(url, label)


def _emphasised(text: str) -> Markup:
    """Bold, italic and struck text, nested properly; everything else escaped."""
    out: list[Markup] = []
    last = 0
    for match in EMPHASIS.finditer(text):
        tag = str(match.lastgroup)
        out.append(plain(text[last : match.start()]))
        out.append(TAGS[tag].format(_emphasised(match[tag])))
        last = match.end()
    out.append(plain(text[last:]))
    return Markup("").join(out)
