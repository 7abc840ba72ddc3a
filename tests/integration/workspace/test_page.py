"""The page in a real browser (Debian's chromium): read, press, choose, fill, type, as one person or another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait
from slack_sdk import WebClient

from demo.workspace import ANA, BEN, CLEO
from tests.integration.workspace.app import TOKEN, buttons, text
from tests.integration.workspace.conftest import Stage

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
)
WAIT_S = 15

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """One headless browser for all tests of this file."""
    if not CHROMIUM.exists() or not CHROMEDRIVER.exists():
        pytest.fail("the browser is missing: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """What a person sees and does."""

    def __init__(self, browser: webdriver.Chrome, stage: Stage) -> None:
        self.browser = browser
        self.stage = stage
        self.slack = WebClient(token=TOKEN, base_url=stage.workspace.api_url, retry_handlers=[])
        self.channel = str(self.slack.conversations_create(name="inc-7")["channel"]["id"])
        self.slack.conversations_invite(channel=self.channel, users=[ANA.id, BEN.id])

    def post(self, *blocks: dict[str, Any], words: str = "card", **more: Any) -> str:
        """A message of the bot."""
        sent = self.slack.chat_postMessage(channel=self.channel, text=words, blocks=list(blocks) or None, **more)
        return str(sent["ts"])

    def open(self, user: str = ANA.id) -> None:
        """Open the channel as this person."""
        self.browser.get(f"{self.stage.workspace.url}/?as={user}&channel={self.channel}")

    def until(self, look: Callable[[], Any], what: str) -> Any:
        """Wait for it; an element that was just drawn anew is looked up again."""
        waiting = WebDriverWait(self.browser, WAIT_S, 0.05, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(lambda _: look(), f"waited for {what}")

    def all(self, css: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        """The one visible element; waits for it."""

        def look() -> WebElement | None:
            return next((element for element in self.all(css) if element.is_displayed()), None)

        found: WebElement = self.until(look, css)
        return found

    def shows(self, words: str, css: str = "#messages") -> None:
        """Wait until these words are there."""
        self.until(lambda: words in self.one(css).text, repr(words))

    def press(self, name: str, css: str = "#messages") -> None:
        """Press the button with this name."""
        self.until(lambda: [b for b in self.all(f"{css} button") if b.text == name], f"button {name}")[0].click()


def console(browser: webdriver.Chrome) -> list[str]:
    """What the browser complained of since it was asked last: refused scripts, broken requests."""
    entries: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]  # selenium's gap
    return [str(entry["message"]) for entry in entries]


@pytest.fixture
def page(browser: webdriver.Chrome, stage: Stage) -> Iterator[Page]:
    """The page; afterwards the browser's console must be clean."""
    console(browser)
    yield Page(browser, stage)
    said = console(browser)
    browser.get("about:blank")
    assert said == []


def test_a_button_is_pressed_and_the_private_answer_shows_to_its_presser_only(page: Page) -> None:
    page.post(buttons("approve", style="primary"))
    page.open(CLEO.id)
    page.press("approve")
    page.shows("You may not: Ben may.")
    page.shows("Only visible to you")
    assert page.stage.bot.seen[0]["user"]["id"] == CLEO.id
    page.open(BEN.id)
    page.shows("approve")
    assert "You may not" not in page.one("#messages").text


def test_a_confirm_dialog_is_asked_first(page: Page) -> None:
    words = {"title": text("Sure?"), "text": text("It runs."), "confirm": text("Do it"), "deny": text("Not yet")}
    page.post(buttons("choose", confirm=words))
    page.open()
    page.press("choose")
    page.press("Not yet", "#confirm")
    assert page.stage.bot.seen == []
    page.press("choose")
    page.press("Do it", "#confirm")
    page.until(lambda: page.stage.bot.seen, "the click")


def test_a_modal_is_filled_its_errors_show_and_it_closes(page: Page) -> None:
    page.post(buttons("note"))
    page.open()
    page.press("note")
    page.shows("Harness note", "#view")
    page.press("Save", "#view")
    page.shows("Please complete this required field.", "#view")
    page.one("#view textarea").send_keys("short")
    Select(page.one("#view select")).select_by_value("drifted")
    page.press("Save", "#view")
    page.shows("A little longer, please.", "#view")
    assert "Please complete" not in page.one("#view").text
    page.one("#view textarea").send_keys("er now")
    page.press("Save", "#view")
    page.until(lambda: not page.one("body").find_element(By.ID, "view").is_displayed(), "the modal to close")
    state = page.stage.bot.seen[-1]["view"]["state"]["values"]
    assert state["what"]["v"]["value"] == "shorter now"
    assert state["how"]["v"]["selected_option"]["value"] == "drifted"


def test_a_modal_is_cancelled_and_the_application_hears_of_it(page: Page) -> None:
    page.post(buttons("note"))
    page.open()
    page.press("note")
    page.press("Cancel", "#view")
    page.until(lambda: page.stage.bot.seen[-1]["type"] == "view_closed", "view_closed")


def test_a_command_is_typed_and_its_answer_is_private(page: Page) -> None:
    page.open()
    page.one("#composer textarea").send_keys("/signalbox list <all>\n")
    page.shows("You said list <all>")
    assert page.stage.bot.seen[0]["command"] == "/signalbox"


def test_a_plain_message_and_a_reply_are_written(page: Page) -> None:
    parent = page.post(words="card")
    page.post(words="first detail", thread_ts=parent)
    page.open()
    page.one("#composer textarea").send_keys("hello @ben\n")
    page.shows("hello @ben")
    page.one("details.thread summary").click()
    page.shows("first detail")
    page.one(".reply input").send_keys("second detail\n")
    page.shows("2 replies")
    page.shows("second detail")


def test_a_menu_is_chosen_from(page: Page) -> None:
    options = [{"text": text(name), "value": name} for name in ("disk-full", "cert-expiry")]
    menu = {"type": "static_select", "action_id": "choose", "options": options, "placeholder": text("Runbook")}
    page.post({"type": "section", "text": text("Which?"), "accessory": menu})
    page.open()
    Select(page.one("#messages select")).select_by_value("cert-expiry")
    page.until(lambda: page.stage.bot.seen, "the choice")
    assert page.stage.bot.seen[0]["actions"][0]["selected_option"]["value"] == "cert-expiry"


def test_what_is_new_appears_by_itself_and_marks_other_channels_unread(page: Page) -> None:
    page.open()
    page.shows("joined the channel")
    page.post(words="live")
    page.shows("live")
    other = page.slack.conversations_create(name="signalbox")["channel"]["id"]
    page.slack.conversations_invite(channel=other, users=ANA.id)
    page.slack.chat_postMessage(channel=other, text=f"<@{ANA.id}> look")
    page.until(lambda: page.one("#sidebar .count").text == "1", "the unread mark")
    page.all(f'#sidebar a[data-channel="{other}"]')[0].click()
    page.shows("@ana look")
    page.until(lambda: not page.all("#sidebar .count"), "the mark to go")


def test_a_missing_answer_shows_operation_timeout(page: Page) -> None:
    page.post(buttons("hang"))
    page.open()
    page.press("hang")
    page.shows("operation_timeout")


def test_hostile_text_is_shown_and_not_run(page: Page) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script> <javascript:alert(3)|here>"
    section = {"type": "section", "text": {"type": "mrkdwn", "text": hostile}}
    page.post({"type": "header", "text": text(hostile)}, section)
    page.post(words=hostile)
    page.slack.conversations_setTopic(channel=page.channel, topic=hostile)
    page.open()
    page.shows("<img src=x onerror=alert(1)>")
    page.shows("<img src=x onerror=alert(1)>", "#head")
    assert page.all("#messages img, #messages script, #messages a, #head img, #head script") == []


def test_who_is_not_in_the_channel_is_offered_to_join(page: Page) -> None:
    page.open(CLEO.id)
    page.press("Join #inc-7", "#foot")
    page.one("#composer textarea").send_keys("hi\n")
    page.shows("Cleo Martin")


def test_on_a_phone_nothing_is_wider_than_the_screen_and_channels_open_from_the_menu(page: Page) -> None:
    page.post({"type": "section", "fields": [text("x" * 200)]}, buttons("approve", "choose", "note", "hang"))
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.open()
        page.shows("approve")
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= 390
        assert page.browser.execute_script("const m = document.getElementById('messages'); return m.scrollWidth") <= 390
        page.one("#menu").click()
        page.shows("general", "#side")
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
