"""A headless Chromium that tests drive, by chromedriver's own protocol: JSON over HTTP."""

import json
import shutil
import subprocess
from contextlib import contextmanager
from urllib.request import ProxyHandler, Request, build_opener

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

_ARGUMENTS = [
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "hide-scrollbars",
]
_STARTED = "was started successfully on port "
_TIMEOUT = 60


@contextmanager
def browser(profile):
    """A session with its user data in the empty folder ``profile``."""
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        try:
            line = next(line for line in driver.stdout if _STARTED in line)
            yield Browser(line.partition(_STARTED)[2].strip().rstrip("."), profile)
        finally:
            driver.terminate()


class Browser:
    """One window."""

    def __init__(self, port, profile):
        self._open = build_opener(ProxyHandler({})).open  # no proxy lies between
        self._session = f"http://127.0.0.1:{port}/session"
        options = {
            "binary": CHROMIUM,
            "args": [*_ARGUMENTS, f"user-data-dir={profile}"],
        }
        capabilities = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        answer = self._ask("", {"capabilities": {"alwaysMatch": capabilities}})
        self._session += f"/{answer['sessionId']}"

    def _ask(self, path, message):
        body = json.dumps(message).encode()
        request = Request(self._session + path, body, {"Content-Type": "application/json"})
        with self._open(request, timeout=_TIMEOUT) as answer:
            return json.load(answer)["value"]

    def visit(self, url):
        self._ask("/url", {"url": url})

    def quit(self):
        """Close the window; without it the processes of the browser would stay."""
        with self._open(Request(self._session, method="DELETE"), timeout=_TIMEOUT):
            pass

    def run(self, script, *arguments):
        """What the body of a JavaScript function returns for ``arguments``."""
        return self._ask("/execute/sync", {"script": script, "args": arguments})

    def errors(self):
        """What the console has had of errors since the last call."""
        entries = self._ask("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def resize(self, width, height):
        """Make the page so large, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        message = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self._ask("/goog/cdp/execute", message)

    def drag(self, selector, x, y, pointer="mouse"):
        """Put a ``mouse`` or a finger (``touch``) on the middle of an element and move it."""
        start = self.run(
            """
            const element = document.querySelector(arguments[0]);
            element.scrollIntoView({ block: "center" });
            const { left, top, width, height } = element.getBoundingClientRect();
            return [left + width / 2, top + height / 2];
            """,
            selector,
        )
        steps = [{"type": "pointerMove", "duration": 0, "x": start[0], "y": start[1]}]
        steps.append({"type": "pointerDown", "button": 0})
        for share in (0.5, 1):
            place = {"x": start[0] + share * x, "y": start[1] + share * y}
            steps.append({"type": "pointerMove", "duration": 50, **place})
        steps.append({"type": "pointerUp", "button": 0})
        parameters = {"pointerType": pointer}
        self._act({"type": "pointer", "id": pointer, "parameters": parameters, "actions": steps})

    def press(self, *keys):
        """Press keys, each held until all are down."""
        down = [{"type": "keyDown", "value": key} for key in keys]
        up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self._act({"type": "key", "id": "keyboard", "actions": down + up})

    def _act(self, source):
        self._ask("/actions", {"actions": [source]})
