"""The page of a map: parsed, and in a real browser."""

import base64
import io
import json
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from browser import CHROMIUM, Browser
from milforge.maps.kinds import Said
from milforge.maps.page import build_index, build_map_page
from milforge.maps.scale import scales_of
from milforge.maps.slide.ground import Ground
from milforge.maps.slide.pyramid import address
from tile_maps import make_map

NASTY = '<img src=x onerror="alert(1)">&\'"</script><b>'
VOID = {"meta", "input", "img"}


class Parsed(HTMLParser):
    """A page; closing tags must fit."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.data = [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))
        elif tag == "input":
            self.texts.append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][1].get("id") == "data":
            self.data += data
        elif not {"style", "script"} & {tag for tag, _ in self.open}:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


def page_of(tiles, **options):
    return build_map_page(tiles, scales_of([tiles]), **options)


def make_ground():
    """A slide of 4,000 x 3,000 pixels; the tile in the middle of (1792, 896) is green."""
    picture = Image.new("RGB", (1600, 1200), (250, 220, 240))
    picture.paste((0, 160, 0), (720, 360, 896, 540))
    return Ground(picture, 4000.0, 3000.0, {0: address(picture)}, {5: address(picture)})


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_the_page_holds_the_numbers_of_the_map():
    tiles = make_map(notes=("a note",))
    parsed = Parsed(page_of(tiles))
    data = json.loads(parsed.data)
    assert data["origin"] == [896, 448]
    assert (floats(data["x"]) + 896 == tiles.corners[:, 0]).all()
    (model,) = data["models"]
    contribution, attention, probability = model["scores"]
    assert contribution["classes"] == ["no", "yes"]
    np.testing.assert_allclose(floats(contribution["values"][1]), tiles.contributions[:, 1], 1e-6)
    np.testing.assert_allclose(floats(attention["values"][0]), tiles.weights * 12, 1e-6)
    np.testing.assert_allclose(floats(probability["values"][0]), tiles.probability[:, 0], 1e-6)
    assert contribution["scale"] == {"kind": "signed", "low": -1.5, "high": 1.5}
    assert "True: yes" in parsed.text.replace("  ", " ")
    assert "yes (0.900)" in parsed.text
    assert "a note" in parsed.text


def test_the_page_stands_alone_and_is_labelled():
    text = page_of(make_map(), ground=make_ground())
    assert "default-src 'none'" in text
    vendor = files("milforge.maps").joinpath("vendor/openseadragon.min.js").read_text("utf-8")
    ours = text.replace(vendor.rpartition("//# source")[0].strip(), "")
    assert len(text) - len(ours) > 300_000
    assert "http" not in ours.replace("http-equiv", "")
    tags = Parsed(text).tags
    for tag, attrs in tags:
        assert tag not in ("link", "iframe", "object")
        assert attrs.get("src", "data:").startswith("data:image/jpeg;base64,") or "src" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
    (viewer,) = [attrs for _, attrs in tags if attrs.get("id") == "viewer"]
    assert viewer["tabindex"] == "0"
    assert viewer["aria-label"].startswith("Map of slide. Arrow keys move")
    assert [attrs["alt"] for tag, attrs in tags if tag == "img"] == ["tile 0", "tile 5"]
    (said,) = [attrs for _, attrs in tags if attrs.get("id") == "said"]
    assert said["aria-live"] == "polite"
    count = [tag for tag, _ in tags].count
    assert count("label") == count("select") + count("input")


def test_text_from_outside_is_text():
    tiles = make_map(
        NASTY, outputs=(NASTY, "b"), classes=("a", NASTY), label=NASTY, predicted=NASTY,
        notes=(NASTY,),
    )  # fmt: skip
    parsed = Parsed(page_of(tiles))
    assert not [tag for tag, _ in parsed.tags if tag in ("img", "b") and _.get("src")]
    assert "img" not in [tag for tag, _ in parsed.tags]
    assert json.loads(parsed.data)["models"][0]["scores"][0]["classes"][0] == NASTY
    index = Parsed(build_index([tiles], {NASTY: NASTY}, NASTY))
    assert "img" not in [tag for tag, _ in index.tags]
    assert index.text.count("<img src=x") == 6


def test_scores_that_there_are_not_are_left_out():
    tiles = make_map(contributions=None, probability=None)
    parsed = Parsed(page_of(tiles))
    assert [each["key"] for each in json.loads(parsed.data)["models"][0]["scores"]] == ["attention"]
    assert "sum to" not in parsed.text


def test_the_index_lists_what_is_missing():
    index = Parsed(build_index([make_map("a b#1")], {"c": "it has no coords"}, "Named bags"))
    links = [attrs["href"] for tag, attrs in index.tags if tag == "a"]
    assert links == ["a%20b%231/map.html"]
    assert "Not mapped" in index.text
    assert "it has no coords" in index.text
    assert "No bag could be mapped." in Parsed(build_index([], {"c": "x"}, "")).text


def test_members_are_models_of_their_own_to_choose():
    members = {"fold 0": Said(contributions=np.ones((12, 2))), "<b>": Said()}
    tiles = make_map(members=members)
    parsed = Parsed(page_of(tiles))
    models = json.loads(parsed.data)["models"]
    assert [each["name"] for each in models] == ["mean of all", "fold 0", "<b>"]
    first, second, third = (each["scores"] for each in models)
    assert [each["key"] for each in second] == [each["key"] for each in first]
    assert (floats(second[0]["values"][1]) == 1).all()
    assert second[1]["classes"] == third[0]["classes"] == []  # what a member does not say
    assert "fold 0" in parsed.text
    assert 'id="model"' not in page_of(make_map())


def test_the_class_token_s_row_is_named_so():
    tiles = make_map(contributions=None, of_token=True)
    assert "class token's attention" in Parsed(page_of(tiles)).text
    assert "class token" not in Parsed(page_of(make_map(contributions=None))).text


# The colour of the canvas in the middle of a tile, and where that lies in the window.
PLACE = (
    "(i => {{ const x = (X[i] + side / 2) * view.k + view.x, y = (Y[i] + side / 2) * view.k + "
    "view.y; const box = canvas.getBoundingClientRect(); return {{x, y, "
    "left: box.left + x * box.width / canvas.width, top: box.top + y * box.height / canvas.height,"
    " colour: [...context.getImageData(x, y, 1, 1).data]}}; }})({})"
)


def faults_of(browser):
    ours = "readback operations"  # it is the test that reads the canvas
    return [each for each in browser.faults if ours not in each]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_in_a_browser(tmp_path):
    other = Said(contributions=np.full((12, 2), -1.5), weights=np.full(12, 1 / 12))
    tiles = make_map(notes=(NASTY,), members={"one": other})
    scales = scales_of([tiles])
    page = tmp_path / "map.html"
    page.write_text(build_map_page(tiles, scales), "utf-8")

    with Browser() as browser:
        frame = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

        def colour(i):
            browser.run(frame)
            return browser.run(PLACE.format(i))["colour"][:3]

        def expected(scale, value):
            return scale.colours[int(np.rint(scale.place(np.array([value]))[0] * 255))].tolist()

        def choose(key, value):
            event = "change" if key in ("score", "class", "model") else "input"
            browser.run(
                f"$('{key}').value = {value}; $('{key}').dispatchEvent(new Event('{event}'))"
            )

        browser.resize(1000, 800)
        browser.open(page)
        browser.run("ready")
        for i in range(12):
            assert colour(i) == expected(scales["contribution"], tiles.contributions[i, 1])
        assert len(browser.screenshot()) > 10_000
        choose("class", 0)
        assert colour(3) == expected(scales["contribution"], tiles.contributions[3, 0])
        choose("score", 1)
        assert browser.run("$('class').disabled")
        assert colour(3) == expected(scales["attention"], tiles.relative[3])
        choose("score", 2)
        assert browser.run("$('class').selectedOptions[0].text") == "yes"
        assert colour(3) == expected(scales["probability"], tiles.probability[3, 1])
        # Of another model, which does not say the probability: nothing is drawn of it.
        choose("model", 1)
        browser.run(frame)
        assert browser.run(PLACE.format(3))["colour"][3] == 0
        choose("score", 0)
        assert colour(3) == expected(scales["contribution"], -1.5)
        choose("model", 0)
        # Hovering.
        choose("score", 0)
        browser.run(frame)
        place = browser.run(PLACE.format(6))
        browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=place["left"], y=place["top"])
        said = browser.run("$('said').textContent")
        assert said.startswith("tile 6 at 1,792, 896; contribution no ")
        for value in (*tiles.contributions[6], tiles.relative[6], *tiles.probability[6]):
            assert f" {value:.4f}" in said
        # Only what says much is left; the highest is reached by a key, and read.
        choose("threshold", 90)
        browser.run(frame)
        assert browser.run(PLACE.format(6))["colour"][3] == 0
        assert colour(0) == expected(scales["contribution"], 1.5)
        choose("threshold", 0)
        browser.run("stage.focus()")
        for key in ("n", "+", "+", "+", "+", "+", "ArrowLeft"):
            browser.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=key[:1])
        assert browser.run("$('said').textContent").startswith("tile 0 at")
        assert colour(5) == expected(scales["contribution"], tiles.contributions[5, 1])
        before = browser.run("view.x")
        browser.send("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight")
        browser.run(frame)
        assert browser.run("view.x") == pytest.approx(before - 40)
        browser.send("Input.dispatchKeyEvent", type="keyDown", key="0", text="0")
        browser.run(frame)
        fitted, k = browser.run("[view.x, view.k]")
        for kind, x in (("mousePressed", 300), ("mouseMoved", 340), ("mouseReleased", 340)):
            browser.send(
                "Input.dispatchMouseEvent",
                type=kind, x=x, y=300, button="left", clickCount=1, buttons=1,
            )  # fmt: skip
        browser.run(frame)
        assert browser.run("view.x") == pytest.approx(fitted + 40)
        browser.send(
            "Input.dispatchMouseEvent", type="mouseWheel", x=300, y=300, deltaX=0, deltaY=-100
        )
        browser.run(frame)
        assert browser.run("view.k") > k
        choose("opacity", 50)
        browser.run(frame)
        assert 120 <= browser.run(PLACE.format(0))["colour"][3] <= 135
        # The picture that is painted once is what is seen from afar.
        choose("opacity", 100)
        browser.run("void viewer.viewport.zoomTo(0.08, null, true)")
        browser.run(frame)
        assert browser.run("view.k <= 1.5 * scale")
        for i in (0, 5, 11):
            assert colour(i) == expected(scales["contribution"], tiles.contributions[i, 1])
        assert faults_of(browser) == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_slide_lies_behind_its_tiles(tmp_path):
    tiles = make_map(to_pixels=1.0, to_micrometres=0.25)
    tiles.corners[0] = -224  # a quarter of it lies on the slide
    page = tmp_path / "map.html"
    page.write_text(page_of(tiles, ground=make_ground()), "utf-8")
    with Browser() as browser:
        browser.resize(1000, 800)
        browser.open(page)
        browser.run("ready")
        browser.run("$('opacity').value = 0; $('opacity').dispatchEvent(new Event('input'))")
        loaded = "viewer.world.getItemAt(0)"
        browser.run(
            f"new Promise(done => {loaded}.getFullyLoaded() ? done() : "
            f"{loaded}.addOnceHandler('fully-loaded-change', () => done()))"  # the event is no JSON
        )
        browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        shown = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
        for i, expected in ((6, (0, 160, 0)), (5, (250, 220, 240)), (7, (250, 220, 240))):
            place = browser.run(PLACE.format(i))
            found = shown.getpixel((int(place["left"]), int(place["top"])))
            assert np.abs(np.array(found) - expected).max() < 12, i
        assert browser.run("$('length').textContent") == "200 \u00b5m"
        width = browser.run("parseFloat($('ruler').style.width)")
        assert width == pytest.approx(800 * browser.run("view.k"), rel=1e-4)
        drawn = browser.run(
            "picture.getContext('2d').getImageData(0, 0, picture.width, picture.height).data"
            ".filter((each, i) => i % 4 === 3 && each).length"
        )
        assert drawn == 11 * 16**2 + 8**2
        # A tile of the gallery is shown where it lies.
        browser.run("document.querySelectorAll('[data-tile]')[1].click()")
        assert browser.run("$('said').textContent").startswith("tile 5 at 1,344, 896; ")
        assert faults_of(browser) == []
