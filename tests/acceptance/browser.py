"""Debian's chromium, headless: what a person does on the workspace's page and reads on the dashboard."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,1000",
)
WAIT_S = 60
SHOTS = "SIGNALBOX_SHOTS"


class Browser:
    """One window. Every look waits until it sees what it looks for."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        """Go there."""
        self._driver.get(url)

    def until(self, look: Callable[[], Any], what: str) -> Any:
        """Wait for it; an element that was just drawn anew is looked up again."""
        redrawn = [StaleElementReferenceException, ElementClickInterceptedException]
        waiting = WebDriverWait(self._driver, WAIT_S, 0.1, ignored_exceptions=redrawn)
        return waiting.until(lambda _: look(), f"waited for {what}; the page says: {self.text()[-1500:]}")

    def text(self) -> str:
        """What can be read on the page."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    def shows(self, words: str) -> None:
        """Wait until these words can be read."""
        self.until(lambda: words in self.text(), repr(words))

    def one(self, css: str) -> WebElement:
        """The one visible element."""

        def look() -> WebElement | None:
            found = [each for each in self._driver.find_elements(By.CSS_SELECTOR, css) if each.is_displayed()]
            return found[0] if len(found) == 1 else None

        element: WebElement = self.until(look, css)
        return element

    def press(self, css: str) -> None:
        """Press this button, when it is there and nothing covers it."""

        def look() -> bool:
            element = self.one(css)
            self._driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
            element.click()
            return True

        self.until(look, css)

    def choose(self, css: str, value: str) -> None:
        """Choose from a menu."""
        Select(self.one(css)).select_by_value(value)

    def fill(self, css: str, text: str) -> None:
        """Type into an empty field."""
        self.one(css).send_keys(text)

    def gone(self, css: str) -> None:
        """Wait until nothing like this is to be seen."""
        self.until(
            lambda: not any(each.is_displayed() for each in self._driver.find_elements(By.CSS_SELECTOR, css)),
            f"no {css}",
        )

    def attributes(self, css: str, name: str) -> list[str]:
        """This attribute of every such element."""
        found = self._driver.find_elements(By.CSS_SELECTOR, css)
        return [value for each in found if (value := each.get_attribute(name)) is not None]

    def complaints(self) -> list[str]:
        """What the browser complained of since it was asked last: refused scripts, broken requests."""
        entries: list[dict[str, Any]] = self._driver.get_log("browser")  # type: ignore[no-untyped-call]  # selenium's gap
        return [str(entry["message"]) for entry in entries]

    def shoot(self, name: str, at: str = "body") -> None:
        """A picture into the folder $SIGNALBOX_SHOTS, when that is set, with the element `at` at the top."""
        if folder := os.environ.get(SHOTS):
            self._driver.execute_script("arguments[0].scrollIntoView({block: 'start'})", self.one(at))
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._driver.save_screenshot(str(Path(folder, f"{name}.png")))


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser for the time of the block."""
    if not CHROMIUM.exists() or not CHROMEDRIVER.exists():
        pytest.fail("the browser is missing: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
