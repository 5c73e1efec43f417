"""`apis.visualize` and its parts: counts, order, and a page that needs no other file."""

import base64
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from tempfile import TemporaryFile

import numpy as np
import pytest
import tiny_weights
import torch
from colored import COLORS, ColorGroups
from PIL import Image
from tiny_training import finish

from benchmarks.processes import ROOT, start
from slotcon_plugin.apis.visualize import visualize
from slotcon_plugin.errors import ConfigError, DataError, SlotConError
from slotcon_plugin.evaluation.batches import LoaderOptions
from slotcon_plugin.functional.dense import upsampled_best
from slotcon_plugin.visualization import embedding, figures, survey
from slotcon_plugin.visualization import page as page_module
from slotcon_plugin.visualization.album import AlbumOptions, choose_images, draw_album
from slotcon_plugin.visualization.painting import hex_color, prototype_colors

ORDER = [4, 2, 0, 5, 3, 1]  # prototype k has the color ORDER[k]


def groups_of(*groups):
    """Groups of an image from (prototype, share, similarity)."""
    return survey.Groups(None, *map(np.array, zip(*groups)))


def test_groups_of_an_image_by_hand():
    scores = torch.tensor([[[0.9, 0.9, 0.1, 0.1]], [[0.2, 0.2, 0.5, 0.3]], [[0.0, 0.0, 0.0, 0.1]]])
    groups = survey.find_groups(scores, 1, 4)
    assert groups.assignment.tolist() == [[0, 0, 1, 1]]
    assert groups.prototypes.tolist() == [0, 1]  # the third one has no pixel
    assert groups.shares.tolist() == [0.5, 0.5]
    assert groups.similarities.tolist() == pytest.approx([0.9, 0.4])
    best, winner = upsampled_best(scores[None], 2, 8, chunk=1)
    whole = torch.nn.functional.interpolate(scores[None], (2, 8), mode="bilinear").max(dim=1)
    assert torch.equal(winner, whole.indices) and torch.equal(best, whole.values)


def test_the_nearest_images_by_hand():
    counts = survey.Survey(3, nearest=2, least_share=0.1)
    counts.add(0, groups_of((0, 0.6, 0.5), (1, 0.4, 0.9)))
    counts.add(1, groups_of((0, 1.0, 0.7)))
    counts.add(
        2, groups_of((1, 0.95, 0.2), (0, 0.05, 0.99))
    )  # the most similar one, but very small
    counts.add(3, groups_of((0, 1.0, 0.7)))
    assert counts.nearest_to(0) == [(1, 0.7), (3, 0.7)]  # of equal ones the earlier one comes first
    assert counts.nearest_to(1) == [(0, 0.9), (2, 0.2)]
    assert counts.nearest_to(2) == []
    assert counts.usage.tolist() == pytest.approx([2.65 / 4, 1.35 / 4, 0])
    assert counts.images_k.tolist() == [4, 2, 0]
    assert counts.most_used(9) == [0, 1]
    assert counts.groups.tolist()[:4] == [0, 2, 2, 0]
    assert counts.sizes.sum() == 6 and counts.sizes[-1] == 3  # 0.95 and 1.0 are in the last
    counts = survey.Survey(3, nearest=4, least_share=0.1)
    counts.add(0, groups_of((0, 0.05, 0.99)))
    counts.add(1, groups_of((0, 0.5, 0.1)))
    assert counts.nearest_to(0) == [(1, 0.1), (0, 0.99)]


def test_memory_does_not_grow_with_the_images():
    counts = survey.Survey(4, nearest=3)
    for index in range(500):
        counts.add(index, groups_of((index % 2, 0.7, index / 500), (2, 0.3, -index / 500)))
    assert [len(heap) for heap in counts._nearest] == [3, 3, 3, 0]
    assert counts.nearest_to(0) == [(498, 0.996), (496, 0.992), (494, 0.988)]
    assert [index for index, _ in counts.nearest_to(2)] == [0, 1, 2]
    held = [v for v in vars(counts).values() if isinstance(v, np.ndarray)]
    assert sum(array.size for array in held) < 100


def test_attention_is_a_share_of_each_pixel():
    scores = torch.randn(5, 3, 4)
    maps = [survey.attention(scores, k, (6, 8), 0.07) for k in range(5)]
    np.testing.assert_allclose(sum(maps), 1, atol=1e-5)
    assert maps[0].shape == (6, 8) and min(m.min() for m in maps) >= 0


def test_similar_prototypes_are_neighbors_in_the_map():
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(4, 32))
    prototypes = np.repeat(centers, 5, axis=0) + 0.05 * generator.normal(size=(20, 32))
    points, method = embedding.positions(prototypes)
    assert method == "t-SNE" and points.min() >= 0 and points.max() <= 1
    distance = np.linalg.norm(points[:, None] - points, axis=2) + 9 * np.eye(20)
    assert (distance.argmin(axis=1) // 5 == np.arange(20) // 5).all()
    assert (points == embedding.positions(prototypes)[0]).all()
    other, cosine = embedding.closest(prototypes)
    assert (other // 5 == np.arange(20) // 5).all() and cosine.min() > 0.9
    assert embedding.positions(prototypes[:3])[1] == "PCA"


class Page(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert tag == self.open.pop(), f"{tag} is closed in line {self.getpos()[0]}"

    def of(self, tag, kind=None):
        return [a for t, a in self.tags if t == tag and kind in (None, *a.get("class", "").split())]


def pixels_of(address):
    return Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2])))


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Seven images of two colors each, grouped by color, and a file that is no image."""
    folder = tmp_path_factory.mktemp("album")
    for i in range(7):
        pixels = np.empty((64, 96, 3), np.uint8)
        pixels[:, : 8 * (i + 2)], pixels[:, 8 * (i + 2) :] = COLORS[0], COLORS[i % 5 + 1]
        Image.fromarray(pixels).save(folder / f'{i} "quoted" <b>.png')
    (folder / "broken.png").write_bytes(b"none")
    paths = sorted(str(path) for path in folder.glob("*.png"))
    options = AlbumOptions(prototypes=(2, 0), nearest=3, overlays=3, size=64, thumbnail=64)
    out = folder / "new" / "out"
    counts, unreadable = draw_album(ColorGroups(ORDER), paths, out, options, LoaderOptions())
    return out, counts, unreadable


def test_the_page_is_self_contained(album):
    text = (album[0] / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:", text)
    page = Page(text)
    assert not page.of("link") and not any("src" in a for a in page.of("script"))
    assert all(a["src"].startswith("data:image/") for a in page.of("img"))
    assert all(a["loading"] == "lazy" and a["alt"] for a in page.of("img"))
    assert "{{" not in text
    assert "default-src 'none'" in text
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert set(ids) >= {"prototype", "sort", "opacity", "size", "cards", "status"}
    assert len(set(ids)) == len(ids)
    labels = {a["aria-labelledby"] for a in page.of("section")}
    assert len(labels) == 4 and labels <= set(ids)
    page.close()
    assert page.open == []


def test_the_page_holds_every_image_and_its_groups(album):
    page = Page((album[0] / "index.html").read_text(encoding="utf-8"))
    cards, photos, groups = (
        page.of(*what) for what in (("li", "card"), ("img", "photo"), ("img", "groups"))
    )
    assert len(cards) == len(photos) == len(groups) == 7
    assert [card["data-name"] for card in cards] == [f'{i} "quoted" <b>.png' for i in range(7)]
    colors = {name: k for k, name in enumerate(map(tuple, prototype_colors(6).tolist()))}
    for i in range(7):
        drawn = np.asarray(pixels_of(groups[i]["src"]).convert("RGB"))
        left, right = colors[tuple(drawn[32, 4])], colors[tuple(drawn[32, 92])]
        assert (ORDER[left], ORDER[right]) == (0, i % 5 + 1)
        listed = dict(entry.split(":")[:2] for entry in cards[i]["data-groups"].split())
        assert {left, right} <= set(map(int, listed))
        share = (drawn == drawn[32, 4]).all(axis=2).mean()
        assert float(listed[str(left)]) == pytest.approx(100 * share, rel=0.01)
        assert pixels_of(photos[i]["src"]).size == (96, 64)


def test_the_gallery_and_the_files(album):
    out, counts, unreadable = album
    assert len(unreadable) == 1 and "broken.png" in unreadable[0]
    assert counts.images == 7 and counts.images_k[2] == 7  # color 0 is in every image
    page = Page((out / "index.html").read_text(encoding="utf-8"))
    assert len(page.of("div", "row")) == 2
    assert len(page.of("img", "marked")) == len(page.of("img", "heat")) == 3 + 1
    chips = [a for a in page.of("button", "chip") if a["data-k"] == "2"]
    assert {a["style"] for a in chips} == {f"--c:{hex_color(prototype_colors(3)[2])}"}
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    expected = {"index.html", "summary.json", "map.png", "histograms.png", "prototypes.png"}
    expected |= {f"prototypes/{k:04}{kind}.png" for k in (0, 2) for kind in ("", "_attention")}
    assert {name for name in files if not name.startswith("groups/")} == expected
    # three of the eight were to be painted, and the last cannot be read
    assert len([name for name in files if name.startswith("groups/")]) == 2
    for name in files - {"index.html", "summary.json"}:
        assert min(Image.open(out / name).size) >= 64
    summary = json.loads((out / "summary.json").read_text())
    nearest = summary["prototypes"][2]["nearest"]
    assert [entry["image"][0] for entry in nearest] == [str(i) for i, _ in counts.nearest_to(2)]


def two_images(folder):
    folder.mkdir()
    for i in range(2):
        pixels = np.full((64, 64, 3), COLORS[i])
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(str(path) for path in folder.glob("*.png"))


def test_a_second_album_removes_the_files_of_the_first(tmp_path):
    paths, out = two_images(tmp_path / "images"), tmp_path / "out"
    own = [out / "groups" / "mine.png", out / "prototypes" / "0001_notes.txt", out / "notes.json"]
    for file in own:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("kept")

    def draw(paths, prototype):
        options = AlbumOptions(prototypes=(prototype,), size=64, thumbnail=64)
        draw_album(ColorGroups(ORDER), paths, out, options, LoaderOptions())
        return {str(path.relative_to(out)) for path in out.rglob("*.png")}

    first, second = draw(paths, 2), draw(paths[1:], 5)  # colors 0 and 1 are prototypes 2 and 5
    assert {"groups/00001_1.png", "prototypes/0002_attention.png"} <= first
    assert {"groups/00000_1.png", "prototypes/0005_attention.png"} <= second
    assert not {f for f in second if "0002" in f or "00001" in f or "00000_0" in f}
    assert all(file.read_text() == "kept" for file in own[1:]) and own[0].is_file()
    with pytest.raises(ConfigError, match=r"has images that are to be drawn .*00000_1\.png"):
        draw([str(out / "groups" / "00000_1.png")], 5)
    assert (out / "groups" / "00000_1.png").is_file()


def test_images_named_from_here_and_from_the_root(tmp_path, monkeypatch):
    one, other = two_images(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    paths = [os.path.relpath(one), other]
    draw_album(ColorGroups(ORDER), paths, tmp_path / "out", AlbumOptions(size=64), LoaderOptions())
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["prototypes"][2]["nearest"][0]["image"] == "0.png"


def write_page(path, counts, images=()):
    """Write the page of a survey, with images that are all of prototype 0."""
    count = len(counts.usage)
    content = dict(origin="network", options=AlbumOptions(), gallery=[], method="PCA")
    content |= dict(points=np.zeros((count, 2)), other=[0] * count, cosine=[0.5] * count)
    with TemporaryFile("w+", encoding="utf-8") as cards:
        for name, pixels in images:
            assignment = np.zeros(pixels.shape[:2], int)
            groups = survey.Groups(assignment, *map(np.array, ([0], [1.0], [0.5])))
            page_module.write_card(cards, name, pixels, groups)
        cards.seek(0)
        page_module.write_page(path, cards, counts, **content)


def test_images_with_very_many_groups(tmp_path):
    counts = survey.Survey(60)
    for index, number in enumerate((39, 40, 55)):
        counts.add(index, groups_of(*((k, 1 / number, 0.5) for k in range(number))))
    write_page(tmp_path / "page.html", counts)
    drawn = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 image with 39<" in drawn and "2 images with 40 or more<" in drawn
    assert "1 to 40 or more<" in drawn
    axis = figures.draw_histograms(counts).axes[2]
    assert axis.get_xticklabels()[-1].get_text() == "40 or more"


def test_the_page_s_memory_does_not_grow_with_the_images(tmp_path):
    counts = survey.Survey(2)
    counts.add(0, groups_of((0, 1.0, 0.5)))
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    write_page(tmp_path / "page.html", counts, [("a.png", noise)])  # caches the templates
    peaks = []
    for number in (10, 100):
        tracemalloc.start()
        write_page(tmp_path / "page.html", counts, ((f"{i}.png", noise) for i in range(number)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "page.html").stat().st_size > 100 * 4000
    assert peaks[1] < peaks[0] + 50_000  # less than ten of the images


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# The large view shows the next image while the first one is still being decoded. Reported are the
# number of images that are decoded, and of canvases after those of the first and of the second.
DECODE_LATE = """<script>
addEventListener("load", async () => {
  const started = [];
  const decode = HTMLImageElement.prototype.decode;
  HTMLImageElement.prototype.decode = function () {
    return new Promise((done) => started.push(() => {
      const decoded = decode.call(this);
      done(decoded);
      return decoded;
    }));
  };
  const finish = async (some) => {
    await Promise.all(some.map((go) => go()));
    await new Promise((done) => setTimeout(done, 50));
    return byId("large-frame").querySelectorAll("canvas").length;
  };
  showLarge(0, 2);
  showLarge(1, 2);
  const found = [started.length, await finish(started.slice(0, 2)), await finish(started.slice(2))];
  new Image().src = "http://127.0.0.1:PORT/" + found.join("-");
});
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_the_large_view_marks_the_image_it_shows(album, tmp_path):
    requests = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        page = (album[0] / "index.html").read_text(encoding="utf-8")
        page = page.replace("</body>", DECODE_LATE.replace("PORT", str(server.server_port)))
        page = page.replace("img-src data:", "img-src data: http:")  # to receive the result
        (tmp_path / "page.html").write_text(page, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        address = (tmp_path / "page.html").as_uri()
        browser = start(BROWSER, *flags, f"--user-data-dir={tmp_path}/profile", address)
        server.timeout = 60
        server.handle_request()
        os.killpg(browser.pid, signal.SIGKILL)
        browser.communicate()
    assert requests == ["/4-0-1"]


def test_wrong_options(album, tmp_path):
    with pytest.raises(ConfigError, match="--prototypes 6 -1: the checkpoint has 0 to 5"):
        draw_album(
            ColorGroups(ORDER), ["a.png"], tmp_path, AlbumOptions((1, 6, -1)), LoaderOptions()
        )
    with pytest.raises(DataError, match="None of the 1 images can be used"):
        draw_album(ColorGroups(ORDER), ["none.png"], tmp_path, AlbumOptions(), LoaderOptions())
    assert not list(tmp_path.glob("*.html")) and not list(tmp_path.glob(".*"))  # no unfinished file


def test_a_limit_chooses_by_the_seed():
    paths = [f"{i:02}" for i in range(50)]
    chosen = choose_images(paths, 7, seed=1)
    assert len(chosen) == 7 and chosen == sorted(chosen) == choose_images(paths, 7, seed=1)
    assert chosen != choose_images(paths, 7, seed=2)
    assert choose_images(paths, 99) == choose_images(paths, None) == paths


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux")
def test_names_that_are_not_utf_8_or_very_long(tmp_path):
    folder = os.fsencode(tmp_path / "images")
    os.mkdir(folder)
    for name in (b"caf\xe9.png", b"x" * 250 + b".png"):
        image = io.BytesIO()
        Image.fromarray(np.full((64, 64, 3), COLORS[0])).save(image, "PNG")
        with open(os.path.join(folder, name), "wb") as file:
            file.write(image.getvalue())
    paths = sorted(os.fsdecode(os.path.join(folder, name)) for name in os.listdir(folder))
    options = AlbumOptions(size=64, thumbnail=64)
    draw_album(ColorGroups(ORDER), paths, tmp_path / "out", options, LoaderOptions())
    page = Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert [card["data-name"] for card in page.of("li", "card")] == [
        "caf\ufffd.png",
        f"{'x' * 250}.png",
    ]
    assert {path.name for path in (tmp_path / "out" / "groups").iterdir()} == {
        "00000_caf\ufffd.png",
        f"00001_{'x' * 150}.png",
    }


def test_images_with_a_very_long_side_are_left_out(tmp_path):
    paths = two_images(tmp_path / "images")
    Image.new("RGB", (1, 3000)).save(tmp_path / "images" / "line.png")
    paths.append(str(tmp_path / "images" / "line.png"))
    options = AlbumOptions(size=64, max_long_side=128)
    counts, left_out = draw_album(
        ColorGroups(ORDER), paths, tmp_path / "out", options, LoaderOptions()
    )
    assert counts.images == 2
    (reason,) = left_out
    assert "line.png: it has 1 x 3000 pixels; with a short side of 64" in reason
    assert "192000, more than 128: cut" in reason


def test_an_image_that_is_removed_after_the_first_pass(tmp_path, monkeypatch):
    paths = two_images(tmp_path / "images")

    def remove_first(scored):
        yield from read_all(scored)
        os.unlink(paths[0])

    read_all = survey.ScoredImages.__iter__
    monkeypatch.setattr(survey.ScoredImages, "__iter__", remove_first)
    options = AlbumOptions(prototypes=(2, 5), size=64, thumbnail=64)  # of colors 0 and 1
    counts, left_out = draw_album(
        ColorGroups(ORDER), paths, tmp_path / "out", options, LoaderOptions()
    )
    assert counts.images == 2 and len(left_out) == 1 and "0.png" in left_out[0]
    page = Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert len(page.of("li", "card")) == 2
    assert len(page.of("div", "row")) == 2 and len(page.of("img", "marked")) == 1
    assert not (tmp_path / "out" / "prototypes" / "0002.png").exists()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_weights.ours(tmp_path_factory.mktemp("weights"), depth=18, num_stages=3)


def test_the_tool(album, checkpoint, tmp_path):
    images = album[0].parents[1]
    tool = [sys.executable, ROOT / "tools" / "visualize.py"]
    options = ["--images", f"{images}/*.png", "--out", tmp_path / "out", "--limit", 4]
    shown = finish(
        start(*tool, checkpoint, *options, "--size", 64, "--workers", 1, "--most-used", 2)
    )
    assert re.search(r"page: .*index\.html \(0\.\d MiB\)", shown) and "grouping" in shown
    assert (tmp_path / "out" / "index.html").is_file()
    shown = finish(start(*tool, "--help"))
    for word in ("index.html", "--prototypes", "--limit", "examples:", "published"):
        assert word in shown
    for option, value, words in (
        ("--limit", "0", "'0', expected a whole number from 1 on"),
        ("--overlays", "-1", "'-1', expected a whole number from 0 on"),
        ("--least-share", "3", "'3', expected a number from 0 to 1"),
        ("--temperature", "0", "'0', expected a number above 0"),
    ):
        command = [*tool, checkpoint, "--images", "a", "--out", "x", f"{option}={value}"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and words in done.stderr


PARSE = """
import json, sys, visualize
found = vars(visualize.parse_args(["c.pth", "--images", "i", "--out", "o"]))
assert "torch" not in sys.modules
print(json.dumps(found))
"""


def test_the_command_line_has_the_options_and_defaults_of_the_function():
    shown = subprocess.check_output([sys.executable, "-c", PARSE], cwd=ROOT / "tools", text=True)
    parameters = inspect.signature(visualize).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    given = dict(checkpoint="c.pth", images=["i"], out="o")
    expected = AlbumOptions._field_defaults | defaults | given
    assert json.loads(shown) == json.loads(json.dumps(expected))


def test_errors_of_the_function(checkpoint, tmp_path):
    image = tmp_path / "a.png"
    Image.new("RGB", (70, 64)).save(image)
    encoder = tmp_path / "encoder.pth"
    torch.save(tiny_weights.random_model(18, 3).teacher.backbone.state_dict(), encoder)
    for network, images, options, words in (
        (encoder, image, {}, "is an encoder alone.*full checkpoint"),
        (tmp_path / "no.pth", image, {}, "no.pth"),
        (checkpoint, tmp_path / "no", {}, "does not exist.*Expected a folder of images"),
        (checkpoint, image, dict(size=1), "--size is 1, expected a whole number from 32 on"),
        (checkpoint, image, dict(max_long_side=99), "--max-long-side is 99, .* from 320 to 27305"),
        (checkpoint, image, dict(device="gpu"), "--device gpu cannot be used"),
    ):
        with pytest.raises(SlotConError, match=f"(?s){words}"):
            visualize(network, images, tmp_path / "x", **dict(device="cpu") | options)
