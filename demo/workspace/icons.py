"""Emoji. The ones that status lines live on are drawn here, since a bare machine has no emoji font; others are text."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

NAMED = re.compile(r":([a-z0-9_+'-]+):")

_SVG = Markup('<svg class="emoji" viewBox="0 0 16 16" role="img" aria-label="{}">{}</svg>')
_DOT = '<circle cx="8" cy="8" r="6" fill="{}" stroke="{}"/>'
_STROKE = '<path d="{}" fill="none" stroke="{}" stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round"/>'
_TICK, _CROSS, _BACK = "M4 8.4l2.8 2.8L12 5.2", "M4 4l8 8M12 4l-8 8", "M6.5 3L3 6.5 6.5 10M3 6.5h6a4 3.2 0 0 1 0 6.5H6"
_GLASS = '<path d="M4 2h8v2.6L9.2 8 12 11.4V14H4v-2.6L6.8 8 4 4.6z" fill="#d9a441" stroke="#8a6420" stroke-width=".8"/>'
_LAMP = (
    '<path d="M4 12V8a4 4 0 0 1 8 0v4z" fill="#e5484d"/><path d="M3 12.5h10v1.5H3z" fill="#5c6876"/>'
    '<path d="M8 .8v1.8M2.2 3.2l1.3 1.3M13.8 3.2l-1.3 1.3" stroke="#e5484d" stroke-width="1.4" stroke-linecap="round"/>'
)
_STOP = '<path d="M5.3 1.5h5.4l3.8 3.8v5.4l-3.8 3.8H5.3L1.5 10.7V5.3z" fill="#d13b37"/>'
_WARN = (
    '<path d="M8 1.6L15 14H1z" fill="#f2b824" stroke="#b98408" stroke-width=".6" stroke-linejoin="round"/>'
    '<path d="M8 6v4M8 11.8v.4" stroke="#3a2c05" stroke-width="1.6" stroke-linecap="round"/>'
)
_LOCK = (
    '<rect x="3" y="7" width="10" height="7" rx="1.5" fill="#d9a441"/>'
    '<path d="M5 7V5a3 3 0 0 1 6 0v2" fill="none" stroke="#7a828c" stroke-width="1.6"/>'
)
_BOX = '<rect x="1.5" y="1.5" width="13" height="13" rx="3" fill="{}"/>'
_BARS = '<path d="M5.5 4.5v7M10.5 4.5v7" stroke="#fff" stroke-width="2.2" stroke-linecap="round"/>'

DRAWN = {
    "white_check_mark": _BOX.format("#2f9e63") + _STROKE.format(_TICK, "#fff"),
    "heavy_check_mark": _STROKE.format(_TICK, "#2f9e63"),
    "x": _STROKE.format(_CROSS, "#d13b37"),
    "warning": _WARN,
    "rotating_light": _LAMP,
    "octagonal_sign": _STOP + _BARS.replace("M5.5 4.5v7M10.5 4.5v7", "M4.5 8h7"),
    "no_entry": _DOT.format("#d13b37", "#d13b37") + _BARS.replace("M5.5 4.5v7M10.5 4.5v7", "M5 8h6"),
    "hourglass": _GLASS,
    "hourglass_flowing_sand": _GLASS,
    "lock": _LOCK,
    "double_vertical_bar": _BOX.format("#4a7fb0") + _BARS,
    "leftwards_arrow_with_hook": _STROKE.format(_BACK, "#4a7fb0"),
    "arrow_right": _STROKE.format("M2.5 8h11M9.5 4l4 4-4 4", "#4a7fb0"),
    "large_green_circle": _DOT.format("#2f9e63", "#2f9e63"),
    "large_yellow_circle": _DOT.format("#f2b824", "#f2b824"),
    "large_orange_circle": _DOT.format("#e8833a", "#e8833a"),
    "large_blue_circle": _DOT.format("#4a7fb0", "#4a7fb0"),
    "red_circle": _DOT.format("#d13b37", "#d13b37"),
    "white_circle": _DOT.format("none", "#93a1ad"),
    "black_circle": _DOT.format("#3b444d", "#3b444d"),
}

TEXT = {
    "white_check_mark": "✅",
    "heavy_check_mark": "✔",
    "x": "❌",
    "warning": "⚠",
    "rotating_light": "🚨",
    "octagonal_sign": "🛑",
    "no_entry": "⛔",
    "hourglass": "⌛",
    "hourglass_flowing_sand": "⏳",
    "lock": "🔒",
    "double_vertical_bar": "⏸",
    "leftwards_arrow_with_hook": "↩",
    "arrow_right": "➡",
    "large_green_circle": "🟢",
    "large_yellow_circle": "🟡",
    "large_orange_circle": "🟠",
    "large_blue_circle": "🔵",
    "red_circle": "🔴",
    "white_circle": "⚪",
    "black_circle": "⚫",
    "fire": "🔥",
    "arrows_counterclockwise": "🔄",
    "rewind": "⏪",
    "question": "❓",
    "exclamation": "❗",
    "raised_hand": "✋",
    "wave": "👋",
    "eyes": "👀",
    "thumbsup": "👍",
    "+1": "👍",
    "thumbsdown": "👎",
    "-1": "👎",
    "tada": "🎉",
    "memo": "📝",
    "clipboard": "📋",
    "key": "🔑",
    "gear": "⚙",
    "wrench": "🔧",
    "mag": "🔍",
    "bar_chart": "📊",
    "chart_with_upwards_trend": "📈",
    "robot_face": "🤖",
    "bell": "🔔",
    "pushpin": "📌",
    "link": "🔗",
    "bulb": "💡",
    "construction": "🚧",
    "package": "📦",
    "stopwatch": "⏱",
    "information_source": "ℹ",
    "bust_in_silhouette": "👤",
    "busts_in_silhouette": "👥",
}

_BY_CHARACTER = {TEXT[name]: name for name in DRAWN}
_ANY = re.compile(NAMED.pattern + "|(" + "|".join(map(re.escape, _BY_CHARACTER)) + ")\ufe0f?")


def with_icons(text: str) -> Markup:
    """Escape the text; draw the emoji that are drawn here, write the others that have a character."""
    out: list[Markup] = []
    last = 0
    for match in _ANY.finditer(text):
        name = match[1] or _BY_CHARACTER[match[2]]
        if name in DRAWN:
            icon = _SVG.format(name.replace("_", " "), Markup(DRAWN[name]))  # noqa: S704  our own constant
        elif name in TEXT:
            icon = escape(TEXT[name])
        else:
            continue
        out += escape(text[last : match.start()]), icon
        last = match.end()
    out.append(escape(text[last:]))
    return Markup("").join(out)
