"""Debian's chromium without a screen, driven by selenium; and the dashboard it looks at."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.cli.process import Kiqpy
from tests.server import TestServer, until

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "screenshots"  # kept, to be looked at
AXE = "axe-core@4"
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_DRIVER = shutil.which("chromedriver")
WHY_NOT = (
    None if _CHROMIUM and _DRIVER
    else "no chromium and chromedriver here: apt-get install chromium chromium-driver"
)  # fmt: skip
LOOKS = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (390, "light")}


class Served:
    """`kiqpy web` in a process of its own."""

    def __init__(self, folder: Path, server: TestServer, *words: str) -> None:
        self.process = Kiqpy(folder, "web", "--redis", server.url, "--port", "0", *words)
        self.process.says("The dashboard is at")
        found = re.search(r"http://\S+", self.process.err)
        assert found is not None
        self.url = found[0] + "/"

    def stop(self) -> None:
        self.process.ctrl_c()
        assert self.process.ends(10) == 0, self.process.err


class Browser:
    """One window."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(_CHROMIUM)
        for flag in ("headless=new", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
            options.add_argument(f"--{flag}")
        if os.getuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(_DRIVER))
        self.url = ""

    def look(self, look: str, height: int = 900) -> None:
        """How wide it is, and which colours its user likes."""
        width, scheme = LOOKS[look]
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def scripts(self, on: bool) -> None:
        self.command("Emulation.setScriptExecutionDisabled", value=not on)

    def command(self, name: str, **given: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, given)

    def open(self, path: str) -> None:
        self.driver.get(urljoin(self.url, path))

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        until(lambda: self._clicked(selector), f"a click on {selector}")

    def _clicked(self, selector: str) -> bool:
        try:
            self.one(selector).click()
        except StaleElementReferenceException:  # the page was refreshed meanwhile
            return False
        return True

    def press(self, *keys: str) -> None:
        for key in keys:
            self.one("body").send_keys(key)

    def sees(self, text: str, within: float = 10) -> None:
        """Return when the page says it."""
        until(lambda: text in self.text, f"{text!r} on the page", within)

    @property
    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def complaints(self) -> list[str]:
        """What the console says, refusals by the content policy above all; it is emptied."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if "favicon" not in entry["message"]]

    def shoot(self, name: str, look: str) -> None:
        """Keep a picture of the whole page."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        height = int(self.run("return document.documentElement.scrollHeight"))
        self.look(look, min(2000, max(600, height)))
        self.driver.save_screenshot(str(SHOTS / f"{name}-{look}.png"))
        self.look(look)

    def faults(self, axe: str) -> list[str]:
        """What axe-core finds to be a serious hindrance."""
        # Not by a tag in the page: its content policy lets no script of others in.
        self.command("Runtime.evaluate", expression=axe)
        found = self.command(
            "Runtime.evaluate",
            expression="axe.run(document, {resultTypes: ['violations']}).then(JSON.stringify)",
            awaitPromise=True, returnByValue=True,
        )  # fmt: skip
        violations = json.loads(found["result"]["value"])["violations"]
        return [
            f"{one['id']}: {one['help']}: {node['html'][:200]}"
            for one in violations
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    def close(self) -> None:
        self.driver.quit()


def axe_core() -> str | None:
    """The source of axe-core, from npm; None if it can't be had."""
    kept = ROOT / ".venv" / "axe.min.js"
    if not kept.exists():
        npm = shutil.which("npm")
        if npm is None:
            return None
        with tempfile.TemporaryDirectory(prefix="kiqpy-axe-") as folder:
            words = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--silent", AXE]
            subprocess.run(words, cwd=folder, capture_output=True, timeout=120, check=False)
            found = Path(folder) / "node_modules" / "axe-core" / "axe.min.js"
            if not found.exists():
                return None
            beside = kept.with_suffix(f".{os.getpid()}")
            shutil.copy(found, beside)
            beside.replace(kept)
    return kept.read_text("utf-8")
