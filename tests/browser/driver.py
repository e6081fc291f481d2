"""Drive a real, headless browser from Python: what chromium.py and firefox.py have in common.

CDP for Chromium and WebDriver BiDi for Firefox are both JSON over one WebSocket, so there is no driver program, no Node
and no patched browser between a test and the browser that people use. Everything here blocks; the servers under test
run in a thread of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

__all__ = ["COMMAND_TIMEOUT", "Browser", "BrowserError", "Channel", "invocation"]

START_TIMEOUT = 60.0
COMMAND_TIMEOUT = 60.0


class BrowserError(Exception):
    """The browser did not start, refused a command, or the JavaScript that it ran threw."""


class Channel:
    """Numbered JSON commands and their answers; what comes in between goes to `on_event`."""

    def __init__(self, url: str, on_event: Callable[[str, dict[str, Any]], None]) -> None:
        self._resources = contextlib.ExitStack()
        connecting = connect(url, max_size=None, compression=None, open_timeout=START_TIMEOUT)
        self._socket: ClientConnection = self._resources.enter_context(connecting)
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
        self._resources.close()


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
        self._channel: Channel | None = None
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

    @classmethod
    def over_http3(cls, origin: str, key_hash: str) -> Self:
        """A browser that loads pages of `origin` ("localhost:4433") over HTTP/3 from the start, whose certificate it
        need not know; `key_hash` is the base64 SHA-256 of that certificate's public key."""
        raise NotImplementedError

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


def invocation(function: str, arguments: Sequence[object]) -> str:
    """JavaScript that calls `function` and resolves to the JSON text of its result."""
    listed = ", ".join(json.dumps(argument) for argument in arguments)
    return f"(async () => JSON.stringify((await ({function})({listed})) ?? null))()"
