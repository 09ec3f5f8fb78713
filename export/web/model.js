/** A file of `keras_senet.export.to_onnx`, run by ONNX Runtime Web. */

import { Detector } from "./detector.js";
import { metadataOf } from "./onnx_file.js";
import { crop, pixelsOf } from "./picture.js";
import { Refusal } from "./refusal.js";

const GATES = "gates/";

const NO_RUNTIME =
  "ONNX Runtime Web is not, or not whole, in ort/ beside this page. In the page's folder: npm install, then copy " +
  "node_modules/onnxruntime-web/dist as ort (README.md), and reload.";

let runtime;

/** ONNX Runtime Web from ort/, loaded once; in a worker, so that the page stays alive while it computes. */
export async function loadRuntime() {
  try {
    runtime ??= await import("./ort/ort.wasm.min.mjs");
  } catch {
    throw new Refusal(NO_RUNTIME);
  }
  runtime.env.wasm.proxy = true;
  runtime.env.wasm.numThreads = 1; // more would need a server that isolates the page from other origins
  return runtime;
}

export class Model {
  /**
   * The bytes of an ONNX file -> Model, or Detector.
   *
   * Throws a Refusal for a file that cannot be read or that does not keep the exporter's contract.
   */
  static async load(bytes) {
    const properties = metadataOf(bytes);
    const ort = await loadRuntime();
    const session = await ort.InferenceSession.create(bytes).catch(({ message }) => {
      if (message.includes("no available backend")) throw new Refusal(`${NO_RUNTIME} (${message.slice(0, 300)})`);
      throw new Refusal(
        `ONNX Runtime cannot load this file: it is damaged or not supported. (${message.slice(0, 300)})`,
      );
    });
    try {
      return properties.has("detector")
        ? new Detector(session, properties, runtime)
        : new Model(session, properties);
    } catch (error) {
      await session.release();
      throw error;
    }
  }

  constructor(session, properties) {
    this.session = session;
    const { size, layout } = inputOf(session.inputMetadata);
    const { classes } = outputOf(session.outputMetadata);
    this.size = size;
    this.layout = layout;
    this.cropFraction = cropFractionOf(properties);
    this.classes = classes;
    this.classNames = classNamesOf(properties, classes);
    this.source = properties.get("source") ?? "";
    this.gateNames = session.outputNames.filter((name) => name.startsWith(GATES));
  }

  get input() {
    return `${this.size} × ${this.size} × 3, ${this.layout.toUpperCase()}`;
  }

  /** Draws what the network sees of a picture on a canvas; says what that is. */
  draw(bitmap, canvas) {
    crop(bitmap, canvas, this.size, this.cropFraction);
    return `What the network sees: ${this.size} × ${this.size} pixels`;
  }

  /**
   * A canvas that `draw` has drawn on -> {values, gates, milliseconds}.
   *
   * `values` (classes) are the predictions, `gates` [layer name, values (channels)] those of each SE block.
   */
  async run(canvas) {
    const pixels = pixelsOf(canvas, this.layout);
    const side = this.size;
    const shape = this.layout === "nhwc" ? [1, side, side, 3] : [1, 3, side, side];
    const started = performance.now();
    const outputs = await this.session.run({ images: new runtime.Tensor("float32", pixels, shape) });
    const milliseconds = performance.now() - started;
    const values = outputs.predictions.data;
    const gates = this.gateNames.map((name) => [name.slice(GATES.length), outputs[name].data]);
    if (![values, ...gates.map(([, gate]) => gate)].every((data) => data.every(Number.isFinite))) {
      throw new Refusal("The network's answer to this picture has numbers that are not finite.");
    }
    return { values, gates, milliseconds };
  }

  nameOf(index) {
    return this.classNames?.[index] ?? `class ${index}`;
  }

  release() {
    return this.session.release();
  }
}

function inputOf(inputs) {
  const shape = inputs[0]?.shape ?? [];
  const layout = { 3: "nhwc", 1: "nchw" }[[3, 1].find((axis) => shape[axis] === 3)];
  const [height, width] = layout === "nhwc" ? shape.slice(1, 3) : shape.slice(2);
  const fits = inputs.length === 1 && inputs[0].name === "images" && inputs[0].type === "float32" && shape.length === 4;
  if (!fits || !layout || height !== width || !Number.isInteger(height) || height < 1) {
    throw new Refusal(
      'This page needs one input "images", float32 of (batch, side, side, 3) or (batch, 3, side, side). ' +
        `This file has ${described(inputs)}.`,
    );
  }
  return { size: height, layout };
}

function outputOf(outputs) {
  const predictions = outputs.find(({ name }) => name === "predictions");
  const classes = predictions?.shape?.[1];
  if (predictions?.type !== "float32" || predictions.shape.length !== 2 || !Number.isInteger(classes)) {
    throw new Refusal(
      `This page needs an output "predictions", float32 of (batch, classes). This file has ${described(outputs)}.`,
    );
  }
  return { classes };
}

/** What a file has in place of what is needed, in words. */
export function described(values) {
  const words = values.map(({ name, type, shape }) => `"${name}", ${type ?? "no tensor"} of (${shape?.join(", ")})`);
  return words.slice(0, 3).join("; ") + (words.length > 3 ? `; and ${words.length - 3} more` : "") || "none";
}

function cropFractionOf(properties) {
  if (!properties.has("preprocessing")) {
    throw new Refusal(
      "This file does not carry its normalisation: what the network expects of a picture's values is not known, and " +
        "a guess would give wrong predictions. Export it with to_onnx(..., preprocessing=model.preprocessing).",
    );
  }
  const fraction = parsed(properties, "preprocessing")?.crop_fraction;
  if (!(fraction >= 0.1 && fraction <= 1)) {
    throw new Refusal(`The file's "preprocessing" needs a crop_fraction of 0.1..1. It has ${JSON.stringify(fraction)}.`);
  }
  return fraction;
}

/** The names, or null; with `classes` they must be so many. */
export function classNamesOf(properties, classes) {
  if (!properties.has("class_names")) return null;
  const names = parsed(properties, "class_names");
  if (!Array.isArray(names) || (classes !== undefined && names.length !== classes)) {
    throw new Refusal(`The file's "class_names" must be a list of ${classes ?? ""} names, one for each class.`);
  }
  return names.map(String);
}

export function parsed(properties, key) {
  try {
    return JSON.parse(properties.get(key));
  } catch {
    throw new Refusal(`The file's "${key}" is not JSON.`);
  }
}
