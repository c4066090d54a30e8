"""The pages in headless Chromium: no error, nothing wider than the screen, sliders that move, and axe-core's rules.

`pytest -m browser` needs a Chromium on the path, and axe-core: `pip install --no-deps axe-playwright-python`.
"""

import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import small_site

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROBE = """<script>
addEventListener("error", (event) => { document.title = "ERROR " + event.message; });
addEventListener("load", async () => {
  const wide = document.documentElement.scrollWidth, room = document.documentElement.clientWidth;
  const broken = [...document.images].filter((image) => image.complete && image.naturalWidth === 0).length;
  let moved = "none";
  const pens = [...document.querySelectorAll("canvas")];
  if (pens.length) {
    const before = pens.map((canvas) => canvas.toDataURL());
    for (const input of document.querySelectorAll("input[type=range]")) {
      input.value = String(Number(input.value) > Number(input.min) ? input.min : input.max);
      input.dispatchEvent(new Event("input"));
    }
    moved = pens.filter((canvas, i) => canvas.toDataURL() !== before[i]).length + " of " + pens.length;
  }
  const found = await axe.run(document);
  const serious = found.violations.filter((rule) => ["serious", "critical"].includes(rule.impact));
  const rules = serious.map((rule) => rule.id + ": " + rule.nodes.map((node) => node.target.join(" ")).join(", "));
  const dark = matchMedia("(prefers-color-scheme: dark)").matches, passed = found.passes.length;
  const report = document.createElement("p");
  report.id = "report";
  report.textContent = JSON.stringify({ over: wide - room, room, broken, moved, rules, passed, dark,
                                        title: document.title });
  document.body.append(report);
});
</script>"""
FRAME = """<!doctype html><body style="margin:0">
<iframe src="{name}" style="width:{width}px;height:900px;border:0"></iframe>
<script>
const timer = setInterval(() => {{
  const report = frames[0].document.getElementById("report");
  if (report === null) return;
  clearInterval(timer);
  const p = document.createElement("p");
  p.textContent = "FOUND" + report.textContent + "END";
  document.body.append(p);
}}, 100);
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pages with a small animation, and axe-core beside them."""
    path = small_site.make(tmp_path_factory.mktemp("site"))
    shutil.copy(Path(__file__).parents[2] / "docs" / "double_descent.png", path / "ntk" / "neurons.gif")
    package = find_spec("axe_playwright_python")
    assert package is not None, "pip install --no-deps axe-playwright-python"
    shutil.copy(Path(package.origin).with_name("axe.min.js"), path / "axe.js")
    for name in small_site.PAGES:
        text = (path / name).read_text(encoding="utf-8")
        probed = text.replace("<head>", f'<head><script src="axe.js"></script>{PROBE}', 1)
        (path / f"probed-{name}").write_text(probed, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", small_site.PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_pages_in_a_browser(folder, tmp_path, name, width, scheme):
    """No error, no broken image, nothing wider than the screen; no serious violation; sliders move their curves.

    The page stands in a frame of that width, since a headless window is never narrower than 500 pixels.
    """
    outer = folder / f"frame-{width}-{name}"
    outer.write_text(FRAME.format(name=f"probed-{name}", width=width), encoding="utf-8")
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    assert browser is not None, f"install one of {', '.join(NAMES)}"
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"),
        *("--enable-logging=stderr", "--virtual-time-budget=20000", "--window-size=1400,1000"),
        f"--blink-settings=preferredColorScheme={['dark', 'light'].index(scheme)}",
        *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", outer.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    report = json.loads(re.search(r"FOUND(\{.*?\})END", done.stdout).group(1))
    assert report["rules"] == []
    assert report["passed"] > 5
    assert report["dark"] == (scheme == "dark")
    assert report["room"] >= width - 20
    assert report["over"] <= 0
    assert report["broken"] == 0
    assert not report["title"].startswith("ERROR")
    assert report["moved"] == ("3 of 3" if name == "explorer.html" else "none")
