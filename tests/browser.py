"""Chromium without a window, driven through its pipe: what a page does in a browser.

No server and no driver are needed: commands of the DevTools protocol go in through one
pipe as JSON, each ended by a zero byte, and answers and events come out of another.
"""

import base64
import contextlib
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time
from typing import NamedTuple

WAIT = 240.0  # s: for a browser that shares its processor with a suite
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser():
    """The path of a browser; None where none is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Seen(NamedTuple):
    """What became of a page."""

    width: int  # px: of what is laid out
    view: int  # px: of the window
    outside: list  # (tag, class, right edge in px) of elements that reach beyond it
    problems: list  # errors of the console and of scripts
    requests: list  # addresses of anything but the page itself and data inside it
    colours: tuple  # of the text and of its ground, as CSS writes them
    picture: bytes  # PNG of the whole page


@contextlib.contextmanager
def open_browser(path):
    """A function (page, width, dark) -> `Seen`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        here_in, there_out = os.pipe()
        there_in, here_out = os.pipe()
        command = [
            path, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-dev-shm-usage", "--disable-extensions", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update",
            f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip

        def place():
            # the browser reads from descriptor 3 and writes to 4
            first, second = os.dup(there_in), os.dup(there_out)
            os.dup2(first, 3)
            os.dup2(second, 4)

        process = subprocess.Popen(
            command,
            preexec_fn=place,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there_in)
        os.close(there_out)
        try:
            yield Pipe(here_in, here_out).look
        finally:
            process.terminate()
            process.wait(WAIT)
            os.close(here_in)
            os.close(here_out)


@contextlib.contextmanager
def open_page(path):
    """A function () -> the text of a page that stays open, as it stands by then."""
    with open_browser(find_browser()) as look:
        pipe = look.__self__
        target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
        attached = pipe.call("Target.attachToTarget", targetId=target, flatten=True)
        session = attached["sessionId"]
        pipe.call("Page.enable", session)
        pipe.call("Page.navigate", session, url=pathlib.Path(path).resolve().as_uri())
        pipe.wait("Page.loadEventFired")

        def text():
            return pipe.call(
                "Runtime.evaluate", session, expression="document.body.innerText"
            )["result"].get("value", "")

        yield text


class Pipe:
    """Commands and events of one browser."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.rest, self.events, self.count = b"", [], itertools.count(1)

    def read(self, until):
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.source], [], [], until - time.monotonic())
            part = os.read(self.source, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError("the browser did not answer")
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\0")
        return json.loads(line)

    def call(self, method, session=None, **parameters):
        number = next(self.count)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.target, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + WAIT
        while (answer := self.read(until)).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait(self, method):
        until = time.monotonic() + WAIT
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.read(until))

    def look(self, page, *, width, dark=False):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        size = {"width": width, "height": 844, "deviceScaleFactor": 1}
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", session, **size, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", session, features=[scheme])
        self.events.clear()
        url = pathlib.Path(page).resolve().as_uri()
        self.call("Page.navigate", session, url=url)
        self.wait("Page.loadEventFired")
        found = json.loads(
            self.call("Runtime.evaluate", session, expression=MEASURE)["result"][
                "value"
            ]
        )
        shown = self.call(
            "Page.captureScreenshot", session, captureBeyondViewport=True, format="png"
        )
        problems, requests = [], []
        for event in self.events:
            what, told = event.get("method"), event.get("params", {})
            if what == "Runtime.exceptionThrown":
                problems.append(told["exceptionDetails"]["text"])
            elif what == "Runtime.consoleAPICalled" and told["type"] == "error":
                problems.append(str(told["args"]))
            elif what == "Log.entryAdded" and told["entry"]["level"] == "error":
                problems.append(told["entry"]["text"])
            elif what == "Network.requestWillBeSent":
                requests.append(told["request"]["url"])
        self.call("Target.closeTarget", targetId=target)
        inner = [r for r in requests if r != url and not r.startswith("data:")]
        return Seen(
            found["width"],
            found["view"],
            found["outside"],
            problems,
            inner,
            (found["text"], found["ground"]),
            base64.b64decode(shown["data"]),
        )


# What reaches beyond the window counts even where a box cuts or scrolls it.
MEASURE = """
JSON.stringify((() => {
  const view = document.documentElement.clientWidth;
  const style = getComputedStyle(document.body);
  const outside = [...document.body.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > view + 1)
    .map(e => [e.tagName, e.className, e.getBoundingClientRect().right]);
  return {view, width: document.documentElement.scrollWidth, outside,
          text: style.color, ground: style.backgroundColor};
})())
"""
