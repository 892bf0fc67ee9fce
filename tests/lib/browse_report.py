#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Opens an HTML report in headless Chromium, by WebDriver, and says what is wrong with it, a line each; nothing and exit 0 when all is well.

usage: browse_report.py REPORT.html [TEXT...]      TEXT: what the page has to show, character by character

Looked at: nothing is run, asked for or refused by the page's own policy; no text has less contrast than WCAG 2.1 AA asks (1.4.3);
no width of a window makes the page scroll sideways, and on paper nothing is cut off; each TEXT is seen on the screen and in the PDF.
"""

import base64
import http.client
import json
import pathlib
import re
import subprocess
import sys
import tempfile

DEADLINE = 60  # seconds for one answer

# The colour behind a text is that of the nearest element that has one. Source of the formula: WCAG 2.1, relative luminance.
CONTRAST = """
const channel = value => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const rgba = text => text.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const behind = element => {
  for (; element; element = element.parentElement) {
    const colour = rgba(getComputedStyle(element).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const poor = new Set();
let seen = 0;
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim()) continue;
  ++seen;
  const [a, b] = [luminance(rgba(getComputedStyle(element).color)), luminance(behind(element))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) poor.add(`${element.tagName} ${ratio.toFixed(2)}`);
}
return {seen, poor: [...poor]};
"""

# How far the page, or an element of it, reaches beyond the right edge.
BEYOND = """
const width = document.documentElement.clientWidth;
const page = document.documentElement.scrollWidth - width;
const inside = element => element.closest('.scroll') && getComputedStyle(element.closest('.scroll')).overflowX === 'auto';
const wide = [...document.body.querySelectorAll('*')].filter(
  element => !inside(element) && element.getBoundingClientRect().right > width + 1).map(element => element.tagName);
return {page, wide: [...new Set(wide)]};
"""


class Driver:
    """A chromedriver of our own, on a port that it chose, and one session with it."""

    def __init__(self, folder):
        self.process = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        cwd=folder)
        port = None
        for line in self.process.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                port = int(found.group(1))
                break
        if port is None:
            sys.exit("chromedriver ended before it listened")
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        # No sandbox of its own inside a container or as root; what it opens is our own page.
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder}/profile"]
        self.session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"}, "goog:chromeOptions": {"args": arguments}}}})["sessionId"]

    def ask(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = json.load(self.connection.getresponse())["value"]
        if isinstance(answer, dict) and "error" in answer:
            sys.exit(f"{path}: {answer['error']}: {answer.get('message', '')[:500]}")
        return answer

    def post(self, path, body):
        return self.ask("POST", f"/session/{self.session}{path}", body)

    def run(self, script):
        return self.post("/execute/sync", {"script": script, "args": []})

    def cdp(self, command, **params):
        return self.post("/goog/cdp/execute", {"cmd": command, "params": params})

    def end(self):
        try:
            self.ask("DELETE", f"/session/{self.session}")
        finally:
            self.process.terminate()
            self.process.wait(DEADLINE)


def look(driver, page, wanted):
    driver.post("/url", {"url": page.resolve().as_uri()})
    for entry in driver.post("/se/log", {"type": "browser"}):
        yield "the browser says: " + entry["message"]
    if asked := driver.run("return performance.getEntriesByType('resource').map(entry => entry.name)"):
        yield f"the page asks for {asked}"
    if ran := driver.run("return document.querySelectorAll('script, iframe, object, embed, img, form, [onerror], [onload], [onclick]').length"):
        yield f"the page holds {ran} elements that could run or load something"
    if links := driver.run("return [...document.links].map(link => link.href).filter(link => !/^https?:/.test(link))"):
        yield f"links that are none of the web: {links}"
    contrast = driver.run(CONTRAST)
    if contrast["poor"] or not contrast["seen"]:
        yield f"contrast under 4.5 in {contrast['poor']} of {contrast['seen']} texts"
    shown = driver.run("return document.body.innerText")
    for text in wanted:
        if text not in shown:
            yield f"'{text}' is not on the page"
    # A telephone, a tablet, a screen; then a sheet of A4 without its margins, at 96 pixels an inch.
    for width, medium in ((360, ""), (800, ""), (1600, ""), (718, "print")):
        driver.cdp("Emulation.setEmulatedMedia", media=medium)
        driver.cdp("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        beyond = driver.run(BEYOND)
        if beyond["page"] > 0 or beyond["wide"]:
            yield f"{beyond['page']} pixels too wide for {width} {medium}: {beyond['wide']}"
    pdf = base64.b64decode(driver.post("/print", {"page": {"width": 21, "height": 29.7}, "shrinkToFit": False}))
    printed = subprocess.run(["pdftotext", "-raw", "-", "-"], input=pdf, capture_output=True, check=True, timeout=DEADLINE).stdout.decode()
    flat = "".join(printed.split())
    for text in wanted:
        if "".join(text.split()) not in flat:
            yield f"'{text}' is not in print"


def main():
    page, wanted = pathlib.Path(sys.argv[1]), sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="slipway-browser-", ignore_cleanup_errors=True) as folder:
        driver = Driver(folder)
        try:
            wrong = list(look(driver, page, wanted))
        finally:
            driver.end()
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
