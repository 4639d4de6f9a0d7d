"""A headless Chromium, driven over a pipe: no network, and no package that drives it."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome", "headless_shell")
        if (found := shutil.which(name))
    ),
    None,
)


class Browser:
    """One page in a browser whose every request but that for the page's file fails."""

    def __init__(self):
        self._home = tempfile.TemporaryDirectory(prefix="browser")
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()

        def fds():
            # Each may be 3 or 4 already.
            one, two = os.dup(to_read), os.dup(to_write)
            os.dup2(one, 3)
            os.dup2(two, 4)

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"]
        flags += ["--remote-debugging-pipe", "--disable-dev-shm-usage", "--disable-extensions"]
        flags += ["--disable-background-networking", f"--user-data-dir={self._home.name}"]
        flags += ["--host-resolver-rules=MAP * ~NOTFOUND"]
        self._process = subprocess.Popen(
            [CHROMIUM, *flags, "about:blank"],
            preexec_fn=fds,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number, self.events = b"", 0, []
        self._session = None
        (page,) = [
            each for each in self.send("Target.getTargets")["targetInfos"] if each["type"] == "page"
        ]
        self._session = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._home.cleanup()

    def send(self, method, **params):
        """The result of a command; events on the way are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(60)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, path):
        """Loads a file, and waits for it."""
        self.events.clear()
        self.send("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + 60
        while not any(each.get("method") == "Page.loadEventFired" for each in self.events):
            self.events.append(self._next(deadline - time.monotonic()))

    def run(self, script):
        """The value of an expression of JavaScript."""
        found = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def resize(self, width, height):
        """The size of the window."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def screenshot(self):
        """A PNG of the whole page."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def pdf(self):
        """The page as it is printed."""
        return base64.b64decode(self.send("Page.printToPDF")["data"])

    @property
    def faults(self):
        """Errors on the console, exceptions, and requests for anything but the file."""
        found = []
        for each in self.events:
            method, params = each.get("method"), each.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"]["text"])
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(str(params["args"]))
            if method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:")):
                    found.append(url)
        return found

    def _next(self, seconds):
        deadline = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self._read, 2**20) if ready else b""
            assert chunk, "the browser did not answer"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
