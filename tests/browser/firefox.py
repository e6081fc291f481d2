"""Firefox or Firefox ESR, driven over WebDriver BiDi."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from tests.browser.driver import COMMAND_TIMEOUT, Browser, BrowserError, Channel, invocation

__all__ = ["Firefox"]

FIREFOX_PREFERENCES: dict[str, bool | int | str] = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": "data:,",
}
"""All of them only keep the browser from calling home; none touches QUIC, WebTransport or certificates."""


class Firefox(Browser):
    """Firefox or Firefox ESR, over WebDriver BiDi."""

    name = "firefox"
    executables = ("firefox-esr", "firefox")
    package = "firefox-esr"

    def __init__(
        self,
        *,
        flags: Sequence[str] = (),
        window: tuple[int, int] = (1100, 900),
        preferences: dict[str, bool | int | str] | None = None,
        any_certificate: bool = False,
    ) -> None:
        self._any_certificate = any_certificate
        self._preferences = {**FIREFOX_PREFERENCES, **(preferences or {})}
        super().__init__(flags=flags, window=window)

    @classmethod
    def over_http3(cls, origin: str, key_hash: str) -> Self:
        host, _, port = origin.rpartition(":")
        preferences: dict[str, bool | int | str] = {
            "network.http.http3.alt-svc-mapping-for-testing": f"{host};h3=:{port}",
            "network.http.http3.disable_when_third_party_roots_found": False,
        }
        return cls(preferences=preferences, any_certificate=True)

    def _prepare_profile(self, profile: Path) -> None:
        lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in self._preferences.items())
        (profile / "user.js").write_text("".join(lines))

    def _start(self) -> None:
        self._spawn(["--headless", "--no-remote", "--profile", str(self._profile), "--remote-debugging-port=0"])
        where = json.loads(self._await_file("WebDriverBiDiServer.json"))
        url = f"ws://{where['ws_host']}:{where['ws_port']}/session"
        self._channel = Channel(url, self._on_event)
        self._command("session.new", capabilities={"alwaysMatch": {"acceptInsecureCerts": self._any_certificate}})
        self._command("session.subscribe", events=["log.entryAdded"])
        self._context = self._command("browsingContext.getTree")["contexts"][0]["context"]
        width, height = self.window
        viewport = {"width": width, "height": height}
        self._command("browsingContext.setViewport", context=self._context, viewport=viewport)

    def open(self, url: str) -> None:
        self._command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def call(self, function: str, *arguments: object, timeout: float = COMMAND_TIMEOUT) -> Any:
        answer = self._command(
            "script.evaluate",
            expression=invocation(function, arguments),
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
            timeout_=timeout,
        )
        if answer["type"] == "exception":
            raise BrowserError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def screenshot(self, path: Path) -> None:
        answer = self._command("browsingContext.captureScreenshot", context=self._context)
        path.write_bytes(base64.b64decode(answer["data"]))

    def click(self, selector: str) -> None:
        x, y = self._centre(selector)
        self._perform(
            "pointer",
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        )

    def type(self, selector: str, text: str) -> None:
        self.click(selector)
        self.call("(s) => document.querySelector(s).select()", selector)
        self._perform("key", *_key_presses(text))

    def _perform(self, device: str, *actions: dict[str, Any]) -> None:
        source = {"type": device, "id": device, "actions": list(actions)}
        self._command("input.performActions", context=self._context, actions=[source])

    def _command(self, method: str, timeout_: float = COMMAND_TIMEOUT, **params: object) -> dict[str, Any]:
        assert self._channel is not None
        return self._channel.command(method, params, timeout=timeout_)

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "log.entryAdded":
            self.console.append(f"{params['level']}: {params['text']}")


def _key_presses(text: str) -> Iterator[dict[str, str]]:
    for character in text:
        yield {"type": "keyDown", "value": character}
        yield {"type": "keyUp", "value": character}
