"""mrkdwn becomes HTML that is right for friendly text and harmless for any other."""

from html.parser import HTMLParser
from urllib.parse import urlparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.workspace.model import Channel, Person, Team
from demo.workspace.mrkdwn import Renderer, plain

ANA = Person(id="U1", name="ana", real_name="Ana")
BOT = Person(id="UBOT", name="bot", real_name="Bot", is_bot=True)
TEAM = Team(
    people={"U1": ANA, "U2": Person(id="U2", name="<b>eve</b>", real_name="Eve")},
    bot=BOT,
    channels={"C1": Channel(id="C1", name="inc-7", creator="UBOT", created=0)},
)
RENDER = Renderer(TEAM, "U1")
TAGS = {"b", "i", "s", "code", "pre", "blockquote", "div", "ul", "li", "span", "a", "br"}
DRAWN = {"svg", "path", "circle", "rect"}
ATTRIBUTES = {"class", "href", "target", "rel"}


class Seen(HTMLParser):
    """Fails on anything that is not ours."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS | DRAWN, tag
        if tag in DRAWN:
            return
        for name, value in attrs:
            assert name in ATTRIBUTES, name
            if name == "href":
                assert urlparse(value or "").scheme in ("http", "https", "mailto"), value


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*bold* and _it_ and ~no~", "<b>bold</b> and <i>it</i> and <s>no</s>"),
        ("_a *b* c_", "<i>a <b>b</b> c</i>"),
        ("2*3*4 snake_case_name a~b~c", "2*3*4 snake_case_name a~b~c"),
        ("`a*b*c <x>`", "<code>a*b*c &lt;x&gt;</code>"),
        ("a &lt;b&gt; &amp;amp;", "a &lt;b&gt; &amp;amp;"),
        ("one\ntwo", "one<br>two"),
        ("> q\n&gt; r\nend", "<blockquote><div>q</div><div>r</div></blockquote>end"),
        ("• a\n- b", "<ul><li>a</li><li>b</li></ul>"),
        ("1. a", '<ul><li class="number"><span>1.</span> a</li></ul>'),
        ("```\n*x*\n y```", "<pre>*x*\n y</pre>"),
        ("<@U1> <@U9|gone> <#C1> <!here>", None),
        ("<!date^0^{date}|1 Jan>", "1 Jan"),
        (":no_such_thing:", ":no_such_thing:"),
    ],
)
def test_friendly_text_is_drawn(text: str, html: str | None) -> None:
    if html is not None:
        assert RENDER.html(text) == html


def test_references_show_names() -> None:
    html = RENDER.html("<@U1> <@U2> <@U9|gone> <#C1> <!here>")
    assert '<span class="mention me">@ana</span>' in html
    assert "@&lt;b&gt;eve&lt;/b&gt;" in html
    assert "@gone" in html
    assert "#inc-7" in html
    assert "@here" in html


def test_links_carry_their_label_and_tell_nobody_where_they_came_from() -> None:
    html = RENDER.html("<https://e.com/a_b_c?x=1&amp;y=2|*see*> and https://f.org/_x_.")
    assert (
        '<a href="https://e.com/a_b_c?x=1&amp;y=2" target="_blank" rel="noopener noreferrer nofollow">*see*</a>' in html
    )
    assert 'href="https://f.org/_x"' in html or 'href="https://f.org/_x_"' in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<javascript:alert(1)|click>",
        "<JaVaScRiPt:alert(1)>",
        "<data:text/html;base64,x|y>",
        '<https://e.com/"onmouseover="alert(1)|x>',
        "<https://e.com|<img src=x onerror=alert(1)>>",
        "*<img src=x onerror=alert(1)>*",
        "`<svg/onload=alert(1)>`",
        "```<iframe>```",
        "> <object>",
        '<@U1"><script>|<script>>',
        "<!subteam^S1|<script>>",
        "\ue0000\ue001\ue0009\ue001",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&amp;lt;script&amp;gt;",
    ],
)
def test_hostile_text_stays_text(text: str) -> None:
    Seen().feed(RENDER.html(text))
    Seen().feed(RENDER.markdown(text))
    Seen().feed(plain(text))


PIECES = [*"<>&;|*_~`\"'\n @#!:/.-•1aUC\ue000\ue001", "https://", "```", "&lt;", ":warning:", "on=", "✅"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_no_text_becomes_a_tag_that_is_not_ours(text: str) -> None:
    Seen().feed(RENDER.html(text))
    Seen().feed(RENDER.markdown(text))


def test_plain_text_has_no_markup() -> None:
    assert plain("*a* <b> &amp; :fire:") == "*a* &lt;b&gt; &amp; 🔥"
