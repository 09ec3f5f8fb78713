/** The page: files in, classes and gates out. Everything that comes from a file is shown as text, never as markup. */

import { drawBoxes } from "./detector.js";
import { element, gateCharts } from "./gates.js";
import { loadRuntime, Model } from "./model.js";
import { decode } from "./picture.js";
import { Refusal } from "./refusal.js";

const TOP = 5;
const CERTAIN = 0.5; // the least score of a box that is shown

const at = (id) => document.getElementById(id);
const state = { model: null, picture: null, answer: null };

// One thing after the other: a session runs one picture at a time.
let queue = Promise.resolve();
let waiting = 0;

function enqueue(task) {
  waiting += 1;
  document.body.setAttribute("aria-busy", "true");
  queue = queue
    .then(() => say("message", ""))
    .then(task)
    .catch(refuse)
    .finally(() => {
      waiting -= 1;
      document.body.setAttribute("aria-busy", String(waiting > 0));
    });
}

function refuse(error) {
  if (!(error instanceof Refusal)) console.error(error);
  say("message", error instanceof Refusal ? error.message : `Something went wrong: ${error.message}`);
  say("status", state.model ? "Ready for a picture." : "Waiting for a network.");
}

function say(id, text) {
  at(id).textContent = text;
  at(id).hidden = !text;
}

/** Loads a network; `read` returns its bytes. The one before is released first: there may be no memory for both. */
async function openModel(name, read) {
  const before = state.model;
  state.model = null;
  at("about").hidden = true;
  forget();
  say("status", `Loading ${name} …`);
  await before?.release();
  state.model = await Model.load(await read());
  showModel(name, state.model);
  await answer();
}

async function openPicture(blob) {
  state.picture?.close();
  state.picture = null;
  forget();
  state.picture = await decode(blob);
  if (!state.model) throw new Refusal("No network is loaded yet. Choose an ONNX file: this picture waits for it.");
  await answer();
}

async function answer() {
  if (!state.picture) {
    say("status", "Ready for a picture.");
    return;
  }
  const { model } = state;
  say("status", "Computing …");
  at("seen").lastElementChild.textContent = model.draw(state.picture, at("crop"));
  at("seen").hidden = false;
  at("seen").classList.toggle("coarse", at("crop").width < 128);
  state.answer = await model.run(at("crop"));
  (state.answer.found ? showBoxes : showClasses)(state.answer);
  showGates();
}

/** Takes the answer to another picture or of another network off the page. */
function forget() {
  state.answer = null;
  at("seen").hidden = true;
  at("results").replaceChildren();
  say("results-note", "");
  showGates();
}

function showModel(name, model) {
  const rows = {
    File: name,
    Source: model.source || "not stated",
    Input: model.input,
    Classes: model.classNames ? model.classes : `${model.classes}, without names in the file`,
  };
  if (model.gateNames) {
    const count = model.gateNames.length;
    rows.Gates = count ? `of ${count} SE blocks` : "none in the file: to_onnx(..., gates=True)";
  }
  const cells = Object.entries(rows).map(([term, value]) => [element("dt", {}, [term]), element("dd", {}, [value])]);
  at("about").replaceChildren(...cells.flat());
  at("about").hidden = false;
}

function showBoxes({ found, milliseconds }) {
  const { model } = state;
  const shown = found.filter(({ value }) => value >= CERTAIN).map((each) => ({ ...each, name: model.nameOf(each.index) }));
  drawBoxes(at("crop"), shown);
  const rows = shown.map(({ name, index, value, box }) => {
    const corners = model.toPicture(box);
    return element("li", { "data-index": index, "data-value": value, "data-box": corners.join(" ") }, [
      element("span", { class: "name" }, [name]),
      element("span", { class: "value" }, [`${(100 * value).toFixed(1)} %`]),
      element("small", {}, [`x ${corners[0].toFixed()} to ${corners[2].toFixed()}, y ${corners[1].toFixed()} to ${corners[3].toFixed()}`]),
    ]);
  });
  at("results").replaceChildren(...rows);
  const others = found.length - shown.length;
  say("results-note", others ? `${others} more of less than ${100 * CERTAIN} % are not shown.` : "");
  say("status", `${shown.length === 1 ? "1 box" : `${shown.length} boxes`}. Took ${Math.round(milliseconds)} ms.`);
}

function showClasses({ values, milliseconds }) {
  const { model } = state;
  const top = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, TOP);
  const probable = areProbabilities(values);
  const rows = top.map((index) => {
    const value = values[index];
    const bar = element("span", { class: "bar", "aria-hidden": "true" }, [element("span")]);
    bar.firstChild.style.width = `${100 * value}%`;
    bar.hidden = !probable;
    return element("li", { "data-index": index, "data-value": value }, [
      element("span", { class: "name" }, [model.nameOf(index)]),
      element("span", { class: "value" }, [probable ? `${(100 * value).toFixed(1)} %` : value.toPrecision(4)]),
      bar,
    ]);
  });
  at("results").replaceChildren(...rows);
  const note = "These outputs are no probabilities (they do not add up to 1): the numbers are shown as they are.";
  say("results-note", probable ? "" : note);
  say("status", `Top-1 prediction: ${model.nameOf(top[0])}. Took ${Math.round(milliseconds)} ms.`);
}

/** Files in 8 bits round each probability to a 256th: those of 1,000 classes may add up to half of 1. */
function areProbabilities(values) {
  const sum = values.reduce((a, b) => a + b, 0);
  return Math.abs(sum - 1) < 0.05 + values.length / 512 && values.every((value) => value >= 0 && value <= 1.01);
}

function showGates() {
  const gates = state.answer?.gates ?? [];
  const sorted = document.querySelector("[name=order]:checked").value === "sorted";
  at("stages").replaceChildren(...gateCharts(gates, sorted));
  at("gates").hidden = gates.length === 0;
}

const openModelFile = (file) =>
  enqueue(() => openModel(file.name, async () => new Uint8Array(await file.arrayBuffer())));
const openPictureFile = (file) => enqueue(() => openPicture(file));

/** A file by what it is; where that is unclear, by where it was dropped. */
function openAny(file, zone) {
  const isModel = /\.(onnx|tflite)$/i.test(file.name) || (!file.type.startsWith("image/") && zone === "model");
  (isModel ? openModelFile : openPictureFile)(file);
}

function openAll(files, zone) {
  if (files.length) [...files].forEach((file) => openAny(file, zone));
  else enqueue(() => Promise.reject(new Refusal("There is no file in this: drop or paste a picture or an ONNX file.")));
}

/** `?model=URL`, of this page's own origin: the page's policy allows no other. */
async function fetchModel(url) {
  if (url.origin !== location.origin) {
    throw new Refusal(`?model= takes files of this page's own server only, not of ${url.origin}.`);
  }
  const response = await fetch(url).catch(() => {
    throw new Refusal(`The server does not answer: ${url.pathname}.`);
  });
  if (!response.ok) throw new Refusal(`The server has no such file (${response.status}): ${url.pathname}.`);
  return new Uint8Array(await response.arrayBuffer());
}

for (const [id, open] of [
  ["model-file", openModelFile],
  ["picture-file", openPictureFile],
]) {
  at(id).addEventListener("change", ({ target }) => {
    if (target.files.length) open(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
}

const zoneOf = (event) => event.target.closest?.(".drop");

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  openAll(event.dataTransfer.files, zoneOf(event)?.dataset.kind);
});
document.addEventListener("paste", (event) => openAll(event.clipboardData.files));
document.querySelectorAll("[name=order]").forEach((radio) => radio.addEventListener("change", showGates));

say("message", "");
say("status", "Waiting for a network.");
enqueue(loadRuntime);
const given = new URLSearchParams(location.search).get("model");
if (given) {
  enqueue(() => {
    const url = URL.canParse(given, location.href) && new URL(given, location.href);
    if (!url) throw new Refusal(`?model= is not an address: ${given}`);
    return openModel(url.pathname.split("/").pop(), () => fetchModel(url));
  });
}
