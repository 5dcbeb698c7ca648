"""Headless Chromium by its DevTools protocol, over a pipe: a page is opened, used and looked at.

Nothing is installed for it and no port is opened. The fixture ``browser`` in ``conftest.py`` skips
where there is no Chromium.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
]  # fmt: skip
# The browser reads commands from descriptor 3 and writes to 4: a child moves its ends there.
LAUNCH = (
    "import os, sys; a, b = map(int, sys.argv[1:3]); a, b = os.dup(a), os.dup(b);"
    "os.dup2(a, 3); os.dup2(b, 4); os.set_inheritable(3, True); os.set_inheritable(4, True);"
    "os.execvp(sys.argv[3], sys.argv[3:])"
)
# name -> code, key code, text
KEYS = {
    "Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, ""),
    "Space": ("Space", 32, " "), "Backspace": ("Backspace", 8, ""),
    "ArrowDown": ("ArrowDown", 40, ""), "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowRight": ("ArrowRight", 39, ""),
    "Home": ("Home", 36, ""), "End": ("End", 35, ""),
    "PageDown": ("PageDown", 34, ""), "PageUp": ("PageUp", 33, ""),
}  # fmt: skip
SHIFT = 8


def find_chromium() -> str | None:
    """Return the browser's program, if there is one."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """A Chromium process; ``close`` ends it.

    Raises:
        RuntimeError: there is no Chromium, or it said no in what a page was asked for.
    """

    def __init__(self) -> None:
        program = find_chromium()
        if program is None:
            raise RuntimeError("no chromium here: apt-get install chromium")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", LAUNCH, str(theirs_in), str(theirs_out), program, *FLAGS,
             f"--user-data-dir={self._profile.name}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            pass_fds=(theirs_in, theirs_out),
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest = b""
        self._last = 0
        self._listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}

    def open(
        self, page: Path | str, *, width: int = 1200, height: int = 900, **media: bool
    ) -> Page:
        """Open a file, or an address, in a tab of its own and wait until it is loaded.

        Args:
            page: file or address.
            width, height: of the view, CSS pixels.
            media: as :meth:`Page.emulate` takes it.
        """
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})
        tab = Page(self, target, session["sessionId"])
        tab.emulate(width=width, height=height, **media)
        tab.load(page)
        return tab

    def send(
        self, method: str, values: dict[str, Any] | None = None, session: str = "",
        seconds: float = 60,
    ) -> dict[str, Any]:  # fmt: skip
        """Send a command and return its result; events that arrive meanwhile go to their page."""
        self._last += 1
        command: dict[str, Any] = {"id": self._last, "method": method, "params": values or {}}
        if session:
            command["sessionId"] = session
        text = memoryview(json.dumps(command).encode() + b"\0")
        while text:
            text = text[os.write(self._write, text) :]
        until = time.monotonic() + seconds
        while True:
            message = self.receive(until)
            if message.get("id") == self._last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return dict(message["result"])

    def receive(self, until: float) -> dict[str, Any]:
        """Return the next message; that of an event is given to its page first."""
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], max(0, until - time.monotonic()))[0]:
                raise RuntimeError("the browser does not answer")
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError("the browser ended")
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        listener = self._listeners.get(message.get("sessionId", ""))
        if listener and "method" in message:
            listener(message["method"], message["params"])
        return message

    def listen(self, session: str, listener: Callable[[str, dict[str, Any]], None]) -> None:
        """Give a session's events to ``listener``."""
        self._listeners[session] = listener

    def close(self) -> None:
        """End the process and remove its profile."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)
        os.close(self._read)
        os.close(self._write)
        self._profile.cleanup()


class Page:
    """A tab.

    Attributes:
        requested: addresses that the page asked for, but itself.
        faults: what its scripts raised, and errors of its console (its policy's refusals too).
    """

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session
        self._loaded = False
        self._view: dict[str, int] = {}
        self._media: dict[str, bool] = {}
        self.requested: list[str] = []
        self.faults: list[str] = []
        browser.listen(session, self._hear)
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **values: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol to this tab."""
        return self._browser.send(method, values, self._session)

    def load(self, page: Path | str) -> None:
        """Open a file or an address in this tab; loading the same one again is a reload."""
        address = page.resolve().as_uri() if isinstance(page, Path) else page
        self._loaded = False
        found = self.send("Page.navigate", url=address)
        if "errorText" in found:
            raise RuntimeError(f"{address}: {found['errorText']}")
        until = time.monotonic() + 60
        while not self._loaded:
            self._browser.receive(until)
        self.requested = [one for one in self.requested if one != address]

    def emulate(self, *, width: int = 0, height: int = 0, **media: bool) -> None:
        """Change the view; what is not named stays as it is.

        Args:
            width, height: CSS pixels.
            media: ``dark``, ``paper`` (print), ``still`` (reduced motion), ``touch``.
        """
        sizes = {"width": width, "height": height}
        self._view |= {name: value for name, value in sizes.items() if value}
        self._media |= media
        chosen = {name: self._media.get(name, False) for name in ("dark", "paper", "still")}
        self.send(
            "Emulation.setDeviceMetricsOverride",
            **self._view, deviceScaleFactor=1, mobile=self._media.get("touch", False),
        )  # fmt: skip
        self.send("Emulation.setTouchEmulationEnabled", enabled=self._media.get("touch", False))
        scheme, motion = (
            "dark" if chosen["dark"] else "light",
            "reduce" if chosen["still"] else "",
        )
        self.send(
            "Emulation.setEmulatedMedia",
            media="print" if chosen["paper"] else "",
            features=[
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": motion},
            ],
        )

    def run(self, expression: str) -> Any:
        """Return the JSON value of a JavaScript expression; a promise is waited for."""
        found = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True,
            userGesture=True,
        )  # fmt: skip
        if "exceptionDetails" in found:
            raise RuntimeError(_describe(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 10) -> Any:
        """Return the expression's value as soon as it is true."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if value := self.run(expression):
                return value
            time.sleep(0.02)
        raise RuntimeError(f"still not true after {seconds} s: {expression}")

    def click(self, selector: str) -> None:
        """Click into the middle of an element, or touch it where touch is emulated."""
        x, y = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            "const r = e.getBoundingClientRect();"
            f"return [r.x + r.width / 2, r.y + r.height / 2] }})({_element(selector)})"
        )
        if self._media.get("touch"):
            self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
            self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            return
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, shift: bool = False) -> None:
        """Press a key: a name of ``KEYS``, or one character."""
        known = KEYS.get(key)
        code, number, text = known or (f"Key{key.upper()}", ord(key.upper()), key)
        values = {
            "key": " " if key == "Space" else key, "code": code, "windowsVirtualKeyCode": number,
            "modifiers": SHIFT if shift else 0,
        }  # fmt: skip
        more = {"text": text} if text else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **values, **more)
        self.send("Input.dispatchKeyEvent", type="keyUp", **values)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.send("Input.insertText", text=text)

    def text(self, selector: str) -> str:
        """Return an element's text as it is shown."""
        return str(self.run(f"{_element(selector)}.innerText"))

    def save_downloads(self, folder: Path) -> None:
        """Let the page save files, into ``folder``."""
        self._browser.send(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
        )

    def set_files(self, selector: str, *files: Path) -> None:
        """Choose files in an ``<input type=file>``."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def read_tree(self) -> list[dict[str, Any]]:
        """Return what a screen reader is told of each node: its role, name, level and states."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        return [
            {
                "role": node.get("role", {}).get("value", ""),
                "name": node.get("name", {}).get("value", ""),
                **{one["name"]: one["value"].get("value") for one in node.get("properties", ())},
            }
            for node in nodes
            if not node["ignored"]
        ]

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write a PNG of the view, or of the whole page."""
        found = self.send(
            "Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole)
        )
        path.write_bytes(base64.b64decode(found["data"]))

    def print_pdf(self, path: Path) -> None:
        """Write the page as a PDF of A4 sheets."""
        found = self.send(
            "Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False
        )
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """Close the tab."""
        self._browser.send("Target.closeTarget", {"targetId": self._target})

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "scale": 1, **{k: size[k] for k in ("width", "height")}}}

    def _hear(self, method: str, values: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requested.append(values["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.faults.append(_describe(values["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "assert"):
            self.faults.append(" ".join(str(one.get("value")) for one in values["args"]))
        elif method == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.faults.append(str(values["entry"]["text"]))


def _element(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"


def _describe(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])
