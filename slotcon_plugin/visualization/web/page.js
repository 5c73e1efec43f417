"use strict";
// Each card contains its image, and its groups as an image in which the color shows the prototype.
// Marking a prototype paints a canvas for each visible card.
const byId = (id) => document.getElementById(id);
const cards = [...byId("cards").children].map((node, number) => ({
  node,
  number,
  name: node.dataset.name,
  groups: new Map(
    node.dataset.groups.split(" ").map((entry) => {
      const [k, share, cosine] = entry.split(":").map(Number);
      return [k, { share, cosine }];
    }),
  ),
  clear: Number(node.dataset.clear),
  ratio: Number(node.style.getPropertyValue("--r")),
}));
const cardOf = new Map(cards.map((card) => [card.node, card]));
const colors = new Map(
  [...document.querySelectorAll("#chips .chip")].map((chip) => [
    Number(chip.dataset.k),
    chip.style.getPropertyValue("--c"),
  ]),
);
let chosen = null; // the marked prototype
let shown = cards;

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** A canvas of an image with one group in its own colors, outlined, and the rest dark and gray. */
async function mark(frame, k) {
  const [photo, groups] = frame.querySelectorAll("img");
  await Promise.all([photo.decode(), groups.decode()]);
  const width = groups.naturalWidth;
  const height = groups.naturalHeight;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(groups, 0, 0);
  const [r, g, b] = rgb(colors.get(k));
  const which = context.getImageData(0, 0, width, height).data;
  const inside = (at) => which[at] === r && which[at + 1] === g && which[at + 2] === b;
  context.drawImage(photo, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  const pixels = image.data;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const here = inside(at);
      const edge =
        (x > 0 && inside(at - 4) !== here) || (y > 0 && inside(at - 4 * width) !== here);
      if (edge) {
        pixels[at] = r;
        pixels[at + 1] = g;
        pixels[at + 2] = b;
      } else if (!here) {
        const gray = 0.3 * pixels[at] + 0.59 * pixels[at + 1] + 0.11 * pixels[at + 2];
        pixels[at] = pixels[at + 1] = pixels[at + 2] = 0.38 * gray + 18;
      }
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

async function paint(frame, k) {
  const photo = frame.querySelector("img");
  frame.dataset.wanted = k ?? "";
  if (k === null) {
    frame.querySelector("canvas")?.remove();
    frame.classList.remove("marking");
    return;
  }
  const canvas = await mark(frame, k).catch(() => null);
  // Another prototype was chosen, the card was removed, or the large view has another image.
  if (!canvas || frame.dataset.wanted !== String(k) || photo.parentNode !== frame) return;
  frame.querySelector("canvas")?.remove();
  frame.querySelectorAll("img")[1].after(canvas);
  frame.classList.add("marking");
}

// Thousands of cards would make every frame slow: only those near the window are in the document,
// in rows of equal width. Without scripts, all cards are in it.
const list = byId("cards");
const GAP = 8;
const MARGIN = 700; // pixels above and below the window
let rows = []; // { top, height, cards }, from the top
let height = 150; // approximate, of a row
list.replaceChildren();
list.classList.add("placed");

/** Put the shown cards into rows that fill the width. */
function place() {
  const width = list.clientWidth;
  rows = [];
  let top = 0;
  let row = [];
  let ratios = 0;
  const close = (full) => {
    const available = width - GAP * (row.length - 1);
    const rowHeight = full ? available / ratios : Math.min(height, available / ratios);
    let left = 0;
    for (const card of row) {
      const style = card.node.style;
      style.left = `${left}px`;
      style.top = `${top}px`;
      style.width = `${rowHeight * card.ratio}px`;
      style.height = `${rowHeight}px`;
      left += rowHeight * card.ratio + GAP;
    }
    rows.push({ top, height: rowHeight, cards: row });
    top += rowHeight + GAP;
    row = [];
    ratios = 0;
  };
  for (const card of shown) {
    row.push(card);
    ratios += card.ratio;
    if (ratios * height + GAP * (row.length - 1) >= width) close(true);
  }
  if (row.length) close(false);
  list.style.height = `${top}px`;
  show();
}

/** Keep the cards near the window in the document, and no others. */
function show() {
  const above = list.getBoundingClientRect().top;
  let first = 0;
  for (let end = rows.length; first < end; ) {
    const middle = (first + end) >> 1;
    if (rows[middle].top + rows[middle].height + above < -MARGIN) first = middle + 1;
    else end = middle;
  }
  const near = new Set();
  for (let at = first; at < rows.length && rows[at].top + above < innerHeight + MARGIN; at++) {
    rows[at].cards.forEach((card) => near.add(card.node));
  }
  for (const node of [...list.children]) {
    if (near.has(node)) continue;
    node.remove();
    paint(node.firstElementChild, null);
  }
  let next = list.firstElementChild;
  for (const node of near) {
    if (node === next) {
      next = next.nextElementSibling;
    } else {
      list.insertBefore(node, next);
      if (chosen !== null) paint(node.firstElementChild, chosen);
    }
  }
}

let scheduled = false;
addEventListener(
  "scroll",
  () => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      show();
    });
  },
  { passive: true },
);
let lastWidth = 0;
new ResizeObserver(() => {
  if (list.clientWidth !== lastWidth) place();
  lastWidth = list.clientWidth;
}).observe(list);

const ORDERS = {
  name: (a, b) => a.number - b.number,
  share: (a, b) => b.groups.get(chosen).share - a.groups.get(chosen).share,
  similarity: (a, b) => b.groups.get(chosen).cosine - a.groups.get(chosen).cosine,
  most: (a, b) => b.groups.size - a.groups.size,
  fewest: (a, b) => a.groups.size - b.groups.size,
  clear: (a, b) => b.clear - a.clear,
  unclear: (a, b) => a.clear - b.clear,
};

function arrange() {
  const sort = byId("sort");
  for (const option of sort.options) {
    option.disabled = chosen === null && ["share", "similarity"].includes(option.value);
  }
  if (sort.selectedOptions[0].disabled) sort.value = "name";
  const part = byId("name").value.trim().toLowerCase();
  shown = cards.filter(
    (card) =>
      (chosen === null || card.groups.has(chosen)) && card.name.toLowerCase().includes(part),
  );
  shown.sort((a, b) => ORDERS[sort.value](a, b) || a.number - b.number);
  shown.forEach(({ node }, at) => {
    node.setAttribute("aria-posinset", at + 1);
    node.setAttribute("aria-setsize", shown.length);
  });
  place();
  const what = chosen === null ? "" : ` with prototype ${chosen}`;
  byId("status").textContent =
    shown.length === cards.length && !what
      ? `${cards.length} images`
      : `${shown.length} of ${cards.length} images${what}`;
}

function choose(k, { scroll = false } = {}) {
  if (k !== null && !colors.has(k)) k = null;
  const sort = byId("sort");
  if (k !== null && chosen === null && sort.value === "name") sort.value = "similarity";
  chosen = k;
  byId("prototype").value = k ?? "";
  for (const chip of document.querySelectorAll("#chips .chip")) {
    chip.setAttribute("aria-pressed", String(Number(chip.dataset.k) === k));
  }
  for (const link of document.querySelectorAll(".map a")) {
    link.classList.toggle("chosen", Number(link.dataset.k) === k);
  }
  arrange();
  for (const node of list.children) paint(node.firstElementChild, chosen);
  if (scroll) byId("images").scrollIntoView();
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-k]");
  if (target) {
    event.preventDefault();
    const k = Number(target.dataset.k);
    if (target.closest("#large-groups")) showLarge(largeAt, k === largeMarked ? null : k);
    else choose(k === chosen ? null : k, { scroll: true });
    return;
  }
  const card = event.target.closest(".card");
  if (card) showLarge(shown.indexOf(cardOf.get(card)), chosen);
});
byId("prototype").addEventListener("change", (event) => {
  choose(event.target.value === "" ? null : Number(event.target.value));
});
byId("sort").addEventListener("change", arrange);
byId("name").addEventListener("input", arrange);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
function applyOpacity() {
  for (const node of [list, byId("large-frame")]) {
    node.style.setProperty("--opacity", byId("opacity").value / 100);
    // The photograph is gray under its groups, so that their colors are the same everywhere.
    node.style.setProperty("--gray", Math.min(1, byId("opacity").value / 25));
  }
}
byId("opacity").addEventListener("input", applyOpacity);
byId("size").addEventListener("input", () => {
  height = Number(byId("size").value);
  place();
});
applyOpacity();
for (const radio of document.querySelectorAll("input[name=view]")) {
  radio.addEventListener("change", () => document.body.classList.toggle("heat", radio.value === "heat"));
}

let largeAt = 0;
let largeMarked = null;
function showLarge(at, k) {
  if (!shown.length) return;
  largeAt = (at + shown.length) % shown.length;
  largeMarked = k;
  const card = shown[largeAt];
  const frame = byId("large-frame");
  frame.style.setProperty("--r", card.node.style.getPropertyValue("--r"));
  frame.classList.remove("marking");
  frame.replaceChildren(
    ...[...card.node.querySelectorAll("img")].map((image) => {
      const copy = image.cloneNode();
      copy.loading = "eager";
      return copy;
    }),
  );
  byId("large-name").textContent = card.name;
  byId("large-groups").replaceChildren(
    ...[...card.groups].map(([number, { share, cosine }]) => {
      const chip = byId("chips").querySelector(`[data-k="${number}"]`).cloneNode(true);
      chip.setAttribute("aria-pressed", String(number === k));
      chip.querySelector("small").textContent = `${share} %, cosine ${cosine}`;
      return chip;
    }),
  );
  paint(frame, k);
  if (!byId("large").open) byId("large").showModal();
}
byId("back").addEventListener("click", () => showLarge(largeAt - 1, largeMarked));
byId("next").addEventListener("click", () => showLarge(largeAt + 1, largeMarked));
byId("large").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") showLarge(largeAt - 1, largeMarked);
  if (event.key === "ArrowRight") showLarge(largeAt + 1, largeMarked);
});
byId("large").addEventListener("click", (event) => {
  if (event.target === byId("large")) byId("large").close();
});
arrange();
