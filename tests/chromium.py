"""Headless Chromium for tests, driven through the pipes of its DevTools protocol."""

import base64
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
    "--proxy-server=127.0.0.1:9",  # refuses: no page gets anything from elsewhere
)  # fmt: skip
# The browser expects the pipes as descriptors 3 and 4, which may be in use here.
START = """
import os, sys
read, write = (os.dup2(int(sys.argv[i]), 100 + i) for i in (1, 2))
os.dup2(read, 3), os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
# Without these, the browser's own controls ignore the keys.
KEY_CODES = {
    "Enter": 13, " ": 32, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip
TIMEOUT = 60  # seconds for any reply; a machine may be busy


class Chromium:
    """A headless browser, driven by JSON messages through two pipes."""

    def __init__(self, program: str, profile: Path) -> None:
        read_theirs, self._write = os.pipe()
        self._read, write_theirs = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(read_theirs), str(write_theirs), program, *FLAGS,
             "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            pass_fds=(read_theirs, write_theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_theirs)
        os.close(write_theirs)
        self._count, self._buffer = 0, b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Call a method and return its result; events that arrive meanwhile go to `events`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == self._count:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def _receive(self) -> Any:
        end = time.monotonic() + TIMEOUT
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not reply"
            chunk = os.read(self._read, 1 << 16)
            assert chunk, "the browser exited"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def close(self) -> None:
        """Quit the browser."""
        self.call("Browser.close")
        os.close(self._write)
        os.close(self._read)
        self._process.wait(TIMEOUT)


class Tab:
    """A browser tab of a given width, with its requests and its errors."""

    def __init__(self, browser: Chromium, width: int, *, dark: bool = False) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=2, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        browser.events.clear()

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method for this tab."""
        return self._browser.call(method, self._session, **parameters)

    def open(self, path: Path) -> None:
        """Load a file completely."""
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + TIMEOUT
        while self.run("document.readyState") != "complete" or self.run("location.href") != (
            path.as_uri()
        ):
            assert time.monotonic() < end
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page, and wait for it if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """Return the addresses that the page requested; what it contains itself is no request."""
        addresses = [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [each for each in addresses if not each.startswith("data:")]

    def errors(self) -> list[Any]:
        """Return console output, exceptions, and log entries of the browser."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [e["params"] for e in self._browser.events if e.get("method") in methods]

    def screenshot(self, path: Path) -> None:
        """Save the whole page as a PNG, to look at."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """Close the page."""
        self.call("Page.close")

    def press(self, key: str) -> None:
        """Press a key; a button takes Enter and Space."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        for kind in ("keyDown", "keyUp"):
            about = {"text": text} if kind == "keyDown" and text else {}
            virtual = KEY_CODES.get(key, 0)
            self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, windowsVirtualKeyCode=virtual, **about,
            )  # fmt: skip

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the left mouse button at the first point, and release it at the last one."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1)]
        for kind, (x, y) in [*zip(kinds, points, strict=True), ("mouseReleased", points[-1])]:
            self.call(
                "Input.dispatchMouseEvent",
                type=kind, x=x, y=y, button="left", buttons=1, clickCount=1,
            )  # fmt: skip

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a position."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def touch(self, x: float, y: float) -> None:
        """Tap at a position."""
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def number(text: str) -> float:
    """Return a number that a page shows, such as 36,000 or 1.1·10²⁷."""
    digits = str.maketrans("\u2212⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789", ",")
    return float(text.translate(digits).replace("·10", "e"))
