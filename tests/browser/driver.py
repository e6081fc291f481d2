"""Drive a real, headless browser from Python: Chromium over CDP, Firefox over WebDriver BiDi.

Both protocols are JSON over one WebSocket, so there is no driver program, no Node and no patched browser between a test
and the browser that people use. Everything here blocks; the servers under test run in a thread of their own.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

__all__ = ["BROWSERS", "Browser", "BrowserError", "Chromium", "Firefox"]

START_TIMEOUT = 60.0
COMMAND_TIMEOUT = 60.0


class BrowserError(Exception):
    """The browser did not start, refused a command, or the JavaScript that it ran threw."""


class _Channel:
    """Numbered JSON commands and their answers; what comes in between goes to `on_event`."""

    def __init__(self, url: str, on_event: Callable[[str, dict[str, Any]], None]) -> None:
        self._socket: ClientConnection = connect(url, max_size=None, compression=None, open_timeout=START_TIMEOUT)
        self._on_event = on_event
        self._last_id = 0

    def command(
        self, method: str, params: dict[str, Any], *, timeout: float = COMMAND_TIMEOUT, **envelope: str
    ) -> dict[str, Any]:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params, **envelope}
        self._socket.send(json.dumps(message))
        deadline = time.monotonic() + timeout
        while True:
            answer = self._receive(method, deadline)
            if answer.get("id") != self._last_id:
                self._on_event(answer.get("method", ""), answer.get("params", {}))
            elif "error" in answer:
                detail = answer.get("message") or json.dumps(answer["error"])
                raise BrowserError(f"{method}: {detail}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self, method: str, deadline: float) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._socket.recv(timeout=max(0.0, deadline - time.monotonic())))
        except TimeoutError:
            raise BrowserError(f"{method}: the browser did not answer in time") from None
        return answer

    def close(self) -> None:
        self._socket.close()


class Browser:
    """One browser process with a fresh profile and one page. A context manager; leaving it kills the process group."""

    name = ""
    executables: tuple[str, ...] = ()
    package = ""

    def __init__(self, *, flags: Sequence[str] = (), window: tuple[int, int] = (1100, 900)) -> None:
        self.console: list[str] = []
        self.window = window
        self._flags = tuple(flags)
        self._profile = Path(tempfile.mkdtemp(prefix=f"quicstack-{self.name}-"))
        self._log_path = self._profile / "browser.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: _Channel | None = None
        try:
            self._prepare_profile(self._profile)
            self._start()
        except BaseException:
            self.close()
            raise

    @classmethod
    def executable(cls) -> str | None:
        """The path of the installed browser, or None."""
        return next(filter(None, map(shutil.which, cls.executables)), None)

    def open(self, url: str) -> None:
        """Load `url` and wait for its load event."""
        raise NotImplementedError

    def call(self, function: str, *arguments: object, timeout: float = COMMAND_TIMEOUT) -> Any:
        """Call a JavaScript function, given as source; await what it returns, give back its JSON value."""
        raise NotImplementedError

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        raise NotImplementedError

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of the element, after scrolling it into view."""
        raise NotImplementedError

    def type(self, selector: str, text: str) -> None:
        """Click into a field, replace what it holds by typing `text`."""
        raise NotImplementedError

    def wait_for(self, expression: str, *, timeout: float = 20.0) -> Any:
        """Wait in the page until a JavaScript expression is truthy; give back its value."""
        return self.call(
            f"""async (patience) => {{
                for (const end = Date.now() + patience; ;) {{
                    const value = ({expression});
                    if (value) return value;
                    if (Date.now() > end) throw new Error("never true: " + {json.dumps(expression)});
                    await new Promise((wake) => setTimeout(wake, 20));
                }}
            }}""",
            timeout * 1000,
            timeout=timeout + 10,
        )

    def text(self, selector: str) -> str:
        """The text of an element as the page shows it."""
        return str(self.call("(s) => document.querySelector(s).innerText", selector))

    def close(self) -> None:
        """End the browser, all its child processes, and its profile folder."""
        if self._channel is not None:
            with contextlib.suppress(Exception):
                self._channel.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare_profile(self, profile: Path) -> None:
        """For subclasses: write preferences before the start."""

    def _start(self) -> None:
        raise NotImplementedError

    def _spawn(self, arguments: Sequence[str]) -> None:
        executable = self.executable()
        if executable is None:
            raise BrowserError(f"{self.name} is not installed: apt-get install {self.package}")
        environment = {**os.environ, "HOME": str(self._profile), "MOZ_HEADLESS": "1"}
        environment.pop("DISPLAY", None)
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*_dies_with_its_parent(), executable, *arguments, *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def _await_file(self, name: str) -> str:
        """The text of a file that the browser writes into its profile once it listens."""
        assert self._process is not None
        path = self._profile / name
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                text = path.read_text()
                if text.strip():
                    return text
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise BrowserError(f"{self.name} did not start:\n{self._log_path.read_text(errors='replace')[-2000:]}")

    def _centre(self, selector: str) -> tuple[float, float]:
        x, y = self.call(
            """(selector) => {
                const element = document.querySelector(selector);
                if (!element) throw new Error("no such element: " + selector);
                element.scrollIntoView({block: "nearest", behavior: "instant"});
                const box = element.getBoundingClientRect();
                const point = [box.x + box.width / 2, box.y + box.height / 2];
                const hit = document.elementFromPoint(...point);
                if (!element.contains(hit)) throw new Error(selector + " is covered or not visible");
                return point;
            }""",
            selector,
        )
        return float(x), float(y)


def _dies_with_its_parent() -> list[str]:
    """What to put before a command so that a test run which is killed leaves no browser behind (util-linux)."""
    return ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []


def _invocation(function: str, arguments: Sequence[object]) -> str:
    """JavaScript that calls `function` and resolves to the JSON text of its result."""
    listed = ", ".join(json.dumps(argument) for argument in arguments)
    return f"(async () => JSON.stringify((await ({function})({listed})) ?? null))()"


class Chromium(Browser):
    """Chromium or Chrome, over the Chrome DevTools Protocol."""

    name = "chromium"
    executables = ("chromium", "chromium-browser", "google-chrome")
    package = "chromium"

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
        self._channel = _Channel(f"ws://127.0.0.1:{port}{path}", self._on_event)
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
            expression=_invocation(function, arguments),
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
    ) -> None:
        self._preferences = {**FIREFOX_PREFERENCES, **(preferences or {})}
        super().__init__(flags=flags, window=window)

    def _prepare_profile(self, profile: Path) -> None:
        lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in self._preferences.items())
        (profile / "user.js").write_text("".join(lines))

    def _start(self) -> None:
        self._spawn(["--headless", "--no-remote", "--profile", str(self._profile), "--remote-debugging-port=0"])
        where = json.loads(self._await_file("WebDriverBiDiServer.json"))
        url = f"ws://{where['ws_host']}:{where['ws_port']}/session"
        self._channel = _Channel(url, self._on_event)
        self._command("session.new", capabilities={})
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
            expression=_invocation(function, arguments),
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


BROWSERS: dict[str, type[Browser]] = {"chromium": Chromium, "firefox": Firefox}
