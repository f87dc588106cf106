# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The page of `lavit demo` in a real browser, as wide as a desk's and as a phone's; leaves screenshots to look at."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


pytest.importorskip("selenium", reason="selenium is not installed: pip install '.[dev]'")

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from command_line import HEEDING_INTERRUPTS


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no Chromium with its driver on this machine: apt-get install chromium chromium-driver",
    ),
    pytest.mark.xdist_group("browser"),
]

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / ".cache" / "screenshots"
PICTURE = ROOT / "examples" / "images" / "emoji" / "penguin.png"
SECONDS = 120  # for whatever the model does, on a slow machine
SIZES = {"desktop": (1280, 900, 1), "phone": (390, 844, 2)}  # width, height, pixels of the screen for each
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`lavit demo` with the shipped checkpoint, and where it is."""
    log = tmp_path_factory.mktemp("server") / "stderr"
    command = [sys.executable, "-m", "lavit_hf.cli", "demo", "--port", "0", "--seed", "0", "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("temporary"))}
    environment.pop("GRADIO_TEMP_DIR", None)
    with open(log, "w") as stderr:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
            **HEEDING_INTERRUPTS,
        )
    try:
        line = process.stdout.readline()
        assert "http://" in line, log.read_text()
        yield process, next(word for word in line.split() if word.startswith("http://")), environment["TMPDIR"], log
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=SIZES)
def browser(request, server, tmp_path_factory):
    """The page in a browser of one of the sizes."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Page(driver, request.param, server[1])
    finally:
        driver.quit()


class Page:
    """What a visitor does and sees."""

    def __init__(self, driver, size: str, url: str):
        self.driver, self.size, self.url = driver, size, url
        width, height, scale = SIZES[size]
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": size == "phone"}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, tab: str = "Read") -> None:
        """Loads the page anew."""
        self.driver.get(self.url)
        self.wait_for("#read-describe")
        if tab != "Read":
            self.switch_to(tab)

    def switch_to(self, tab: str) -> None:
        (button,) = (button for button in self.all("button[role=tab]") if button.is_displayed() and button.text == tab)
        button.click()

    def all(self, selector: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, condition: Callable[[], Any], message: str = "") -> Any:
        """What the condition gives, when it gives something; the page may replace what is looked at meanwhile."""
        patience = WebDriverWait(self.driver, SECONDS, ignored_exceptions=[StaleElementReferenceException])
        return patience.until(lambda _: condition(), message)

    def wait_for(self, selector: str, count: int = 1):
        """The first of the elements, when there are as many and they can be seen."""

        def look():
            seen = [element for element in self.all(selector) if element.is_displayed()]
            return len(seen) >= count and seen[0]

        return self.until(look, f"no {selector}")

    def click(self, selector: str):
        element = self.wait_for(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def type(self, selector: str, text: str) -> None:
        self.wait_for(selector).send_keys(text)

    def paste(self, selector: str, text: str) -> None:
        """A long text at once, as from the clipboard."""
        self.driver.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            self.wait_for(selector),
            text,
        )

    def upload(self, selector: str, *paths: Path) -> None:
        self.driver.find_element(By.CSS_SELECTOR, f"{selector} input[type=file]").send_keys("\n".join(map(str, paths)))

    def text_of(self, selector: str) -> str:
        """What a text field says when it says something."""
        field = self.wait_for(f"{selector} textarea")
        self.until(lambda: field.get_property("value"), f"{selector} stays empty")
        return field.get_property("value")

    def wait_for_text(self, selector: str, text: str) -> None:
        self.until(
            lambda: any(text in element.text for element in self.all(selector)), f"{selector} never says {text!r}"
        )

    def wait_for_pictures(self, selector: str, count: int = 1) -> list[tuple[int, int]]:
        """The sizes of images, when they are loaded."""
        self.wait_for(f"{selector} img", count)
        sizes = "return [...document.querySelectorAll(arguments[0])].map(i => [i.naturalWidth, i.naturalHeight])"
        self.until(lambda: all(min(size) > 0 for size in self.driver.execute_script(sizes, f"{selector} img")))
        return self.driver.execute_script(sizes, f"{selector} img")

    def message(self, area: str) -> str:
        """What the message says that is shown beneath a button; it covers no button."""
        message = self.wait_for(f"{area} p").text
        self.save("message")
        assert not self.all(".toast-body")
        covered = (
            "return [...document.querySelectorAll('button')].filter(b => b.checkVisibility()).filter(b => {"
            " const [m, r] = [arguments[0].getBoundingClientRect(), b.getBoundingClientRect()];"
            " return r.left < m.right && m.left < r.right && r.top < m.bottom && m.top < r.bottom && r.width })"
            ".map(b => b.outerHTML.slice(0, 100))"
        )
        assert self.driver.execute_script(covered, self.wait_for(f"{area} p")) == []
        return message

    def wait_until_gone(self, selector: str) -> None:
        self.until(
            lambda: not any(element.is_displayed() for element in self.all(selector)), f"{selector} never leaves"
        )

    def check(self, name: str) -> None:
        """Saves a screenshot, and makes sure that nothing is wider than the window."""
        self.save(name)
        inside, width = self.driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert inside <= width == SIZES[self.size][0]
        outside = (
            "return [...document.querySelectorAll('body *')].filter(e => e.checkVisibility()"
            " && (e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1))"
            ".map(e => e.outerHTML.slice(0, 100))"
        )
        assert self.driver.execute_script(outside) == []

    def save(self, name: str) -> None:
        """The whole page, from top to bottom."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.driver.execute_script("window.scrollTo(0, 0)")
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        area = {"x": 0, "y": 0, "width": SIZES[self.size][0], "height": height, "scale": 1}
        settings = {"captureBeyondViewport": True, "clip": area}
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", settings)["data"]
        (SCREENSHOTS / f"{self.size}-{name}.png").write_bytes(base64.b64decode(picture))

    def requested(self) -> set[str]:
        """All that the page has asked for since it was last looked at."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return {
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        }


def test_read(browser):
    browser.open()
    browser.wait_for_pictures(".examples")
    browser.check("empty")
    browser.upload("#read-picture", PICTURE)
    assert browser.wait_for_pictures("#read-overlay") == [[512, 512]]
    browser.click("#read-describe")
    assert browser.text_of("#read-caption").strip()
    browser.type("#read-question textarea", "What category is this?")
    browser.click("#read-ask")
    assert browser.text_of("#read-answer").strip()
    browser.wait_for_text("#read-note", "of 64 patches kept")
    browser.check("read")


def test_share_of_the_patches(browser):
    browser.open()
    browser.click(".examples button")
    browser.wait_for_text("#read-note", "patches kept")
    browser.click("input[type=radio][value='A share']")
    share = browser.wait_for("input[type=range]")
    share.send_keys(Keys.END)
    browser.wait_for_text("#read-note", "64 of 64 patches kept (100%)")
    browser.check("share")
    browser.click("input[type=radio][value='As many as needed']")
    browser.wait_for_text("#read-note", "rror is")
    browser.check("error")


def test_new_picture_clears_what_was_said_of_the_last(browser):
    browser.open()
    browser.upload("#read-picture", PICTURE)
    browser.click("#read-describe")
    browser.text_of("#read-caption")
    browser.click(".examples button")
    field = browser.wait_for("#read-caption textarea")
    browser.until(lambda: not field.get_property("value"))


def test_draw(browser):
    browser.open("Draw")
    browser.type("#draw-prompt textarea", "red apple")
    browser.click("#draw-start")
    browser.wait_for(".progress-level")
    sizes = browser.wait_for_pictures("#draw-drawn", 4)
    assert len({tuple(size) for size in sizes}) == 1
    browser.wait_for_text("#draw-note", "Seed 0.")
    browser.check("draw")
    assert shown_sizes(browser, "#draw-drawn .grid-wrap img") == [sizes[0]] * 4


def shown_sizes(browser, selector: str) -> list[list[int]]:
    """How large images are on the page, what scales them down in their boxes counted in."""
    return browser.driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(i => {"
        " const box = i.getBoundingClientRect(), scale = getComputedStyle(i).objectFit == 'scale-down'"
        " ? Math.min(1, box.width / i.naturalWidth, box.height / i.naturalHeight)"
        " : Math.min(box.width / i.naturalWidth, box.height / i.naturalHeight);"
        " return [i.naturalWidth * scale, i.naturalHeight * scale].map(Math.round) })",
        selector,
    )


def test_texts_to_start_with(browser):
    browser.open()
    browser.wait_for(".chips button").click()
    assert browser.text_of("#read-question") == browser.wait_for(".chips button").text
    assert "emoji" in browser.wait_for(".knowledge").text
    browser.switch_to("Draw")
    chip = next(chip for chip in browser.all(".chips button") if chip.is_displayed())
    chip.click()
    assert browser.text_of("#draw-prompt") == chip.text


def test_draw_of_text_and_pictures(browser):
    browser.open("Draw")
    browser.upload("#draw-pictures", PICTURE, PICTURE.with_name("rocket.png"))
    browser.wait_for_pictures("#draw-pictures", 2)
    browser.type("#draw-prompt textarea", "<image> <image> house")
    browser.click("#draw-start")
    browser.wait_for_pictures("#draw-drawn", 4)
    browser.check("draw-mixed")


def test_look_inside(browser):
    browser.open()
    browser.upload("#read-picture", PICTURE)
    browser.wait_for_pictures("#read-overlay")
    browser.switch_to("Look inside")
    browser.wait_for_pictures("#inside-picture")  # came along, and is looked into at once
    browser.wait_for_pictures("#inside-painted")
    browser.wait_for_text("#inside-steps", "patches kept")
    ids = browser.text_of("#inside-ids").split()
    assert len(ids) >= 3
    tap_a_kept_patch(browser, [int(id) for id in ids])
    assert len(browser.wait_for_pictures("#inside-alone", 4)) == 4
    assert len(browser.wait_for_pictures("#inside-patches", 8)) == 8
    browser.check("inside")


def test_look_inside_follows_the_last_picture(browser):
    browser.open()
    browser.click(".examples button")
    browser.wait_for_pictures("#read-overlay")
    browser.switch_to("Look inside")
    browser.wait_for_pictures("#inside-painted")
    first = browser.text_of("#inside-ids")
    browser.switch_to("Read")
    overlay = browser.wait_for("#read-overlay img").get_attribute("src")
    browser.click(".examples button:nth-child(3)")
    browser.until(lambda: browser.wait_for("#read-overlay img").get_attribute("src") != overlay, "no other overlay")
    browser.switch_to("Look inside")
    field = browser.wait_for("#inside-ids textarea")
    browser.until(lambda: field.get_property("value") not in ("", first), "still the first picture")


def tap_a_kept_patch(browser, ids: list[int]) -> None:
    """Taps on patches from the middle on until one has a code, which must be among the ids."""
    side = browser.wait_for("#inside-codes img").size["width"]
    for row, column in sorted(
        ((r, c) for r in range(8) for c in range(8)), key=lambda p: abs(p[0] - 3.5) + abs(p[1] - 3.5)
    ):
        image = browser.wait_for("#inside-codes img")
        browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)
        offsets = [round((place + 0.5) * side / 8 - side / 2) for place in (column, row)]
        webdriver.ActionChains(browser.driver).move_to_element_with_offset(image, *offsets).click().perform()
        browser.wait_for("#inside-tap-problem p, #inside-alone img")
        if browser.all("#inside-alone img"):
            break
        assert "was dropped" in browser.message("#inside-tap-problem")
    browser.wait_until_gone("#inside-tap-problem p")
    code = int(browser.wait_for("#inside-code input").get_property("value"))
    first_code = ids[-1] + 1  # codes follow on [/IMG], which ends the ids
    assert first_code + code in ids


def test_messages(browser, tmp_path):
    browser.open()
    browser.click("#read-describe")
    assert "No image is chosen" in browser.message("#read-describe-problem")
    (tmp_path / "note.png").write_bytes(b"no picture")
    browser.upload("#read-picture", tmp_path / "note.png")
    assert '"note.png" is not an image' in browser.message("#read-picture-problem")
    browser.until(lambda: browser.all("#read-picture input[type=file]"))
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    browser.upload("#read-picture", tmp_path / "huge.png")
    browser.wait_for_text("#read-picture-problem", '"huge.png" has more than')
    browser.click("#read-ask")
    assert "The text is empty" in browser.message("#read-ask-problem")
    browser.check("messages")
    browser.upload("#read-picture", PICTURE)
    browser.wait_for_pictures("#read-overlay")
    browser.wait_until_gone(".problem p")  # as this succeeded
    browser.check("after-messages")


def test_messages_of_draw(browser):
    browser.open("Draw")
    browser.click("#draw-start")
    assert "The text is empty" in browser.message("#draw-problem")
    browser.type("#draw-prompt textarea", "<image> red")
    browser.click("#draw-start")
    browser.wait_for_text("#draw-problem", "<image>")  # spelled out, not taken for HTML
    browser.paste("#draw-prompt textarea", "cat " * 50_000)
    browser.click("#draw-start")
    browser.wait_for_text("#draw-problem", "200,000 characters")


def test_nothing_is_fetched_from_elsewhere(browser):
    browser.requested()
    browser.open()
    browser.upload("#read-picture", PICTURE)
    browser.wait_for_pictures("#read-overlay")
    urls = {url for url in browser.requested() if not url.startswith(("data:", "blob:", "chrome"))}
    assert any(url.startswith(browser.url) for url in urls)
    assert {url for url in urls if not url.startswith(browser.url)} == set()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to send")
def test_ends_by_interrupt(server):
    process, _, temporary, log = server
    assert [path.name[:6] for path in Path(temporary).iterdir()] == ["lavit-"]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=SECONDS) == 130
    assert list(Path(temporary).iterdir()) == []  # uploads and results
    assert log.read_text() == ""
