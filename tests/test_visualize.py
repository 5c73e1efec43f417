"""tools/visualize.py and what it stands on: counts, order, and a page that needs nothing else."""

import base64
import io
import json
import os
import re
import shutil
import signal
import sys
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import tiny_weights
import torch
from colored import COLORS, ColorGroups
from PIL import Image
from tiny_training import finish, load_tool

from benchmarks.processes import ROOT, start
from slotcon_plugin.errors import ConfigError, DataError
from slotcon_plugin.evaluation.batches import LoaderOptions
from slotcon_plugin.functional.dense import upsampled_best
from slotcon_plugin.visualization import embedding, figures, page_parts, survey
from slotcon_plugin.visualization.album import Wishes, choose_images, draw_album
from slotcon_plugin.visualization.painting import hex_color, prototype_colors

ORDER = [4, 2, 0, 5, 3, 1]  # prototype k has the color ORDER[k]


def found(*groups):
    """Groups of an image from (prototype, share, similarity)."""
    return survey.Groups(None, *map(np.array, zip(*groups)))


def test_groups_of_a_image_by_hand():
    scores = torch.tensor([[[0.9, 0.9, 0.1, 0.1]], [[0.2, 0.2, 0.5, 0.3]], [[0.0, 0.0, 0.0, 0.1]]])
    groups = survey.group(scores, 1, 4)
    assert groups.assignment.tolist() == [[0, 0, 1, 1]]
    assert groups.prototypes.tolist() == [0, 1]  # the third has no pixel; the first of equal ones
    assert groups.shares.tolist() == [0.5, 0.5]
    assert groups.similarities.tolist() == pytest.approx([0.9, 0.4])
    best, winner = upsampled_best(scores[None], 2, 8, chunk=1)
    whole = torch.nn.functional.interpolate(scores[None], (2, 8), mode="bilinear").max(dim=1)
    assert torch.equal(winner, whole.indices) and torch.equal(best, whole.values)


def test_the_nearest_images_by_hand():
    counts = survey.Survey(3, nearest=2, least_share=0.1)
    counts.add(0, found((0, 0.6, 0.5), (1, 0.4, 0.9)))
    counts.add(1, found((0, 1.0, 0.7)))
    counts.add(2, found((1, 0.95, 0.2), (0, 0.05, 0.99)))  # nearest of all, but a speck
    counts.add(3, found((0, 1.0, 0.7)))
    assert counts.nearest_to(0) == [(1, 0.7), (3, 0.7)]  # of equal ones the earlier first
    assert counts.nearest_to(1) == [(0, 0.9), (2, 0.2)]
    assert counts.nearest_to(2) == []
    assert counts.usage.tolist() == pytest.approx([2.65 / 4, 1.35 / 4, 0])
    assert counts.images_k.tolist() == [4, 2, 0]
    assert counts.most_used(9) == [0, 1]
    assert counts.groups.tolist()[:4] == [0, 2, 2, 0]
    assert counts.sizes.sum() == 6 and counts.sizes[-1] == 3  # 0.95 and 1.0 are in the last
    speck = survey.Survey(3, nearest=4, least_share=0.1)
    speck.add(0, found((0, 0.05, 0.99)))
    speck.add(1, found((0, 0.5, 0.1)))
    assert speck.nearest_to(0) == [(1, 0.1), (0, 0.99)]


def test_memory_does_not_grow_with_the_images():
    counts = survey.Survey(4, nearest=3)
    for index in range(500):
        counts.add(index, found((index % 2, 0.7, index / 500), (2, 0.3, -index / 500)))
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
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def of(self, tag, kind=None):
        return [a for t, a in self.tags if t == tag and kind in (None, *a.get("class", "").split())]


def pixels_of(address):
    return Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2])))


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Seven images of two colors each, one more that is none, grouped by color."""
    folder = tmp_path_factory.mktemp("album")
    for i in range(7):
        pixels = np.empty((64, 96, 3), np.uint8)
        pixels[:, : 8 * (i + 2)], pixels[:, 8 * (i + 2) :] = COLORS[0], COLORS[i % 5 + 1]
        Image.fromarray(pixels).save(folder / f'{i} "quoted" <b>.png')
    (folder / "broken.png").write_bytes(b"none")
    paths = sorted(str(path) for path in folder.glob("*.png"))
    wishes = Wishes(prototypes=(2, 0), nearest=3, overlays=3, size=64, thumbnail=64)
    out = folder / "new" / "out"
    counts, unreadable = draw_album(ColorGroups(ORDER), paths, out, wishes, LoaderOptions())
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
    controls = {a.get("id") for _, a in page.tags}
    assert controls >= {"prototype", "sort", "opacity", "size", "cards", "status"}


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


def test_a_second_album_leaves_nothing_of_the_first(tmp_path):
    paths, out = two_images(tmp_path / "images"), tmp_path / "out"
    own = [out / "groups" / "mine.png", out / "prototypes" / "0001_notes.txt", out / "notes.json"]
    for file in own:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("kept")

    def draw(paths, prototype):
        wishes = Wishes(prototypes=(prototype,), size=64, thumbnail=64)
        draw_album(ColorGroups(ORDER), paths, out, wishes, LoaderOptions())
        return {str(path.relative_to(out)) for path in out.rglob("*.png")}

    first, second = draw(paths, 2), draw(paths[1:], 5)  # colors 0 and 1 are prototypes 2 and 5
    assert {"groups/00001_1.png", "prototypes/0002_attention.png"} <= first
    assert {"groups/00000_1.png", "prototypes/0005_attention.png"} <= second
    assert not {f for f in second if "0002" in f or "00001" in f or "00000_0" in f}
    assert all(file.read_text() == "kept" for file in own[1:]) and own[0].is_file()
    with pytest.raises(ConfigError, match=r"has images that are to be looked at .*00000_1\.png"):
        draw([str(out / "groups" / "00000_1.png")], 5)
    assert (out / "groups" / "00000_1.png").is_file()


def test_images_named_from_here_and_from_the_root(tmp_path, monkeypatch):
    one, other = two_images(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    paths = [os.path.relpath(one), other]
    draw_album(ColorGroups(ORDER), paths, tmp_path / "out", Wishes(size=64), LoaderOptions())
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["prototypes"][2]["nearest"][0]["image"] == "0.png"


def test_images_with_very_many_groups_are_called_so():
    counts = survey.Survey(60)
    for index, number in enumerate((39, 40, 55)):
        counts.add(index, found(*((k, 1 / number, 0.5) for k in range(number))))
    drawn = page_parts.charts(counts)
    assert "1 images with 39<" in drawn and "2 images with 40 or more<" in drawn
    assert "1 to 40 or more<" in drawn
    axis = figures.draw_histograms(counts).axes[2]
    assert axis.get_xticklabels()[-1].get_text() == "40 or more"


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# The large view goes on to the next image while the first one is still being decoded: how many
# images are decoded, and the canvases there are after those of the first and of the second.
HURRY = """<script>
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
    told = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            told.append(self.path)
            self.send_error(404)

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        page = (album[0] / "index.html").read_text(encoding="utf-8")
        page = page.replace("</body>", HURRY.replace("PORT", str(server.server_port)))
        page = page.replace("img-src data:", "img-src data: http:")  # to hear of it
        (tmp_path / "page.html").write_text(page, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        address = (tmp_path / "page.html").as_uri()
        browser = start(BROWSER, *flags, f"--user-data-dir={tmp_path}/profile", address)
        server.timeout = 60
        server.handle_request()
        os.killpg(browser.pid, signal.SIGKILL)
        browser.communicate()
    assert told == ["/4-0-1"]


def test_mistakes_teach(album, tmp_path):
    with pytest.raises(ConfigError, match="--prototypes 6 -1: the checkpoint has the prototypes 0"):
        draw_album(ColorGroups(ORDER), ["a.png"], tmp_path, Wishes((1, 6, -1)), LoaderOptions())
    with pytest.raises(DataError, match="None of the 1 images can be read"):
        draw_album(ColorGroups(ORDER), ["none.png"], tmp_path, Wishes(), LoaderOptions())
    assert not list(tmp_path.glob("*.html")) and not list(tmp_path.glob(".*"))  # nothing is left


def test_a_limit_chooses_by_the_seed():
    paths = [f"{i:02}" for i in range(50)]
    chosen = choose_images(paths, 7, seed=1)
    assert len(chosen) == 7 and chosen == sorted(chosen) == choose_images(paths, 7, seed=1)
    assert chosen != choose_images(paths, 7, seed=2)
    assert choose_images(paths, 99) == choose_images(paths, None) == paths


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_weights.ours(tmp_path_factory.mktemp("weights"), depth=18, num_stages=3)


def test_the_tool(album, checkpoint, tmp_path):
    images = album[0].parents[1]
    tool = [sys.executable, ROOT / "tools" / "visualize.py"]
    there = ["--images", f"{images}/*.png", "--out", tmp_path / "out", "--limit", 4]
    help_process = start(*tool, "--help")
    shown = finish(start(*tool, checkpoint, *there, "--size", 64, "--most-used", 2))
    assert re.search(r"look at: .*index\.html \(0\.\d MiB\)", shown) and "grouping" in shown
    assert (tmp_path / "out" / "index.html").is_file()
    shown = finish(help_process)
    for word in ("index.html", "--prototypes", "--limit", "examples:", "published"):
        assert word in shown


def test_the_tool_s_mistakes_are_one_message(checkpoint, tmp_path, capsys, monkeypatch):
    tool = load_tool("visualize", monkeypatch)
    image = tmp_path / "a.png"
    Image.new("RGB", (70, 64)).save(image)
    encoder = tmp_path / "encoder.pth"
    torch.save(tiny_weights.lively_model(18, 3).teacher.backbone.state_dict(), encoder)
    for network, images, words in (
        (encoder, image, "is an encoder alone.*full checkpoint"),
        (tmp_path / "no.pth", image, "no.pth"),
        (checkpoint, tmp_path / "no", "does not exist.*Expected a folder of images"),
    ):
        arguments = [network, "--images", images, "--out", tmp_path / "x", "--device", "cpu"]
        assert tool.main([str(word) for word in arguments]) == 1
        assert re.search("error: .*" + words, capsys.readouterr().err, re.DOTALL)
    for option, value, words in (
        ("--limit", "0", "'0', expected a whole number from 1 on"),
        ("--overlays", "-1", "'-1', expected a whole number from 0 on"),
        ("--least-share", "3", "'3', expected a number from 0 to 1"),
        ("--temperature", "0", "'0', expected a number above 0"),
    ):
        with pytest.raises(SystemExit):
            tool.main([str(checkpoint), "--images", "a", "--out", "x", f"{option}={value}"])
        assert words in capsys.readouterr().err
