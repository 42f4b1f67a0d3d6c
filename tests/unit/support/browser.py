"""A real browser, asked over the pipe of its DevTools protocol (chromedevtools.github.io/devtools-protocol)."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-headless-shell", "google-chrome", "chromium-browser")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--remote-debugging-pipe",
)
_ANSWER_S = 60.0


def find() -> str | None:
    """The program, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a browser that ends with it. `troubles` is what the page complained of, `loaded` all it fetched."""

    def __init__(self, program: str, profile: Path) -> None:
        self.troubles: list[str] = []
        self.loaded: list[str] = []
        self._number = 0
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        child_in, self._to = os.pipe()
        self._from, child_out = os.pipe()
        # away from 3 and 4, where the browser looks for them
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (child_in, child_out)]
        self._pid = os.posix_spawn(
            program,
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 2, str(profile.with_suffix(".log")), os.O_WRONLY | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_DUP2, moved[0], 3),
                (os.POSIX_SPAWN_DUP2, moved[1], 4),
            ],
            setpgroup=0,
        )
        for fd in (child_in, child_out, *moved):
            os.close(fd)
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """A command for the page. Raises `AssertionError` where it is refused, or not answered in time."""
        return self._ask(method, parameters or {}, session=self._session)

    def open(self, url: str) -> None:
        """Load a page and wait until it is there."""
        self._events.clear()
        self.ask("Page.navigate", {"url": url})
        self._receive_until(lambda: any(event["method"] == "Page.loadEventFired" for event in self._events))

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        done = self.ask(
            "Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True, "userGesture": True}
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """A key on the keyboard, by its name and its Windows virtual key code."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code})

    def look(self, *, scheme: str = "light", width: int = 1280, height: int = 900, media: str = "") -> None:
        """Choose a colour scheme, a window's size in CSS pixels, and a medium such as `print`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", {"media": media, "features": features})
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        taken = self.ask("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._to)
        os.close(self._from)

    def _ask(self, method: str, parameters: Mapping[str, Any], session: str | None = None) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []
        self._receive_until(lambda: bool(answers), answers)
        (answer,) = answers
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _receive_until(self, enough: Any, answers: list[dict[str, Any]] | None = None) -> None:
        deadline = time.monotonic() + _ANSWER_S
        while not enough():
            assert select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))[0], "no answer in time"
            data = os.read(self._from, 1 << 16)
            assert data, "the browser has ended"
            *messages, self._buffer = (self._buffer + data).split(b"\0")
            for raw in messages:
                message = json.loads(raw)
                if message.get("id") == self._number and answers is not None:
                    answers.append(message)
                elif "method" in message:
                    self._event(message)

    def _event(self, message: dict[str, Any]) -> None:
        self._events.append(message)
        method, parameters = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            self.loaded.append(parameters["request"]["url"])
        elif method in {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}:
            self.troubles.append(json.dumps(parameters))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
