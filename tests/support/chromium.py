"""A headless Chromium that opens a page and tells what it saw; DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
_LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, wanted in zip(ends, (3, 4)):
    os.dup2(end, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The protocol wants the pipes on descriptors 3 and 4."""
_ERRORS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


def found() -> str | None:
    """Return the path of a Chromium; None if none is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page at a time."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._rest = b""
        self._id = 0
        self._session: str | None = None
        self.seen: deque[dict[str, Any]] = deque()
        """Events that came by."""

    def open(self, path: Path, width: int = 1280, *, dark: bool = False) -> None:
        """Open a file at a width of the window, and wait until it is all there."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        answer = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.ask(f"{domain}.enable")
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.seen.clear()
        self.ask("Page.navigate", url=path.absolute().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.seen):
            self.seen.append(self._message())

    def complaints(self) -> list[dict[str, Any]]:
        """Return what went to the console, and every exception."""
        return [event["params"] for event in self.seen if event["method"] in _ERRORS]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for, the page's own included."""
        sent = "Network.requestWillBeSent"
        return [one["params"]["request"]["url"] for one in self.seen if one["method"] == sent]

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression comes to."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def picture(self, out: Path, span: tuple[int, int] | None = None) -> None:
        """Write a PNG of the whole page, or from one to another distance from its top, px."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        top, bottom = span or (0, size["height"])
        clip = {"x": 0, "y": top, "width": size["width"], "height": bottom - top}
        options = {"captureBeyondViewport": True, "clip": clip | {"scale": 1}}
        out.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", **options)["data"]))

    def print(self, out: Path) -> None:
        """Write the page as it would be printed."""
        out.write_bytes(base64.b64decode(self.ask("Page.printToPDF")["data"]))

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser, and return its answer."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": params}
        if self._session is not None and not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.seen.append(answer)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._reading, 1 << 20)
            if not more:
                raise RuntimeError("the browser is gone")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Run a Chromium with a profile of its own in a folder.

    Raises:
        FileNotFoundError: no Chromium is installed.
    """
    path = found()
    if path is None:
        raise FileNotFoundError(f"none of {', '.join(NAMES)} is here")
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    program = [path, *FLAGS, f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank"]
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, str(theirs_in), str(theirs_out), *program],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(ours_in, ours_out)
    finally:
        process.terminate()
        process.wait()
        os.close(ours_in)
        os.close(ours_out)
