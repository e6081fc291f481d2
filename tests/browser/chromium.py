"""Chromium or Chrome, driven over the Chrome DevTools Protocol."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Self

from tests.browser.driver import COMMAND_TIMEOUT, Browser, BrowserError, Channel, invocation

__all__ = ["Chromium"]


class Chromium(Browser):
    """Chromium or Chrome, over the Chrome DevTools Protocol."""

    name = "chromium"
    executables = ("chromium", "chromium-browser", "google-chrome")
    package = "chromium"

    @classmethod
    def over_http3(cls, origin: str, key_hash: str) -> Self:
        return cls(flags=[f"--origin-to-force-quic-on={origin}", f"--ignore-certificate-errors-spki-list={key_hash}"])

    def _start(self) -> None:
        width, height = self.window
        self._spawn(
            [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-breakpad",
                "--no-first-run",
                "--no-default-browser-check",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
                "--hide-scrollbars",
                f"--window-size={width},{height}",
                "--remote-debugging-port=0",
                f"--user-data-dir={self._profile}",
                "about:blank",
            ]
        )
        port, path = self._await_file("DevToolsActivePort").split()
        self._channel = Channel(f"ws://127.0.0.1:{port}{path}", self._on_event)
        targets = self._channel.command("Target.getTargets", {})["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self._channel.command("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._command(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._command("Emulation.setDeviceMetricsOverride", **metrics)

    def open(self, url: str) -> None:
        answer = self._command("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        self.wait_for("document.readyState === 'complete'")

    def call(self, function: str, *arguments: object, timeout: float = COMMAND_TIMEOUT) -> Any:
        answer = self._command(
            "Runtime.evaluate",
            expression=invocation(function, arguments),
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
            timeout_=timeout,
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return json.loads(answer["result"]["value"])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._command("Page.captureScreenshot", format="png")["data"]))

    def click(self, selector: str) -> None:
        x, y = self._centre(selector)
        self._mouse("mouseMoved", x, y, "none")
        self._mouse("mousePressed", x, y, "left")
        self._mouse("mouseReleased", x, y, "left")

    def type(self, selector: str, text: str) -> None:
        self.click(selector)
        self.call("(s) => document.querySelector(s).select()", selector)
        self._command("Input.insertText", text=text)

    def _mouse(self, kind: str, x: float, y: float, button: str) -> None:
        self._command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1)

    def _command(self, method: str, timeout_: float = COMMAND_TIMEOUT, **params: object) -> dict[str, Any]:
        assert self._channel is not None
        return self._channel.command(method, params, timeout=timeout_, sessionId=self._session)

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            parts = (str(a.get("value", a.get("description", ""))) for a in params["args"])
            self.console.append(f"{params['type']}: {' '.join(parts)}")
        elif method == "Log.entryAdded":
            self.console.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append(f"error: {details.get('exception', {}).get('description') or details['text']}")
