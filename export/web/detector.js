/** A detector's file of `keras_senet.export.to_onnx`: boxes in a picture. */

import { classNamesOf, described, parsed } from "./model.js";
import { Refusal } from "./refusal.js";

const OUTPUTS = ["boxes", "scores", "classes", "count"];

export class Detector {
  constructor(session, properties, runtime) {
    Object.assign(this, { session, runtime });
    const shape = session.inputMetadata.find(({ name }) => name === "images")?.shape;
    const names = [session.inputNames, session.outputNames].map((each) => [...each].sort().join());
    if (names[0] !== "images,size" || names[1] !== [...OUTPUTS].sort().join() || shape?.[3] !== 3) {
      throw new Refusal(
        'This page needs a detector\'s inputs "images", float32 of (1, height, width, 3), and "size", and its outputs ' +
          `"${OUTPUTS.join('", "')}". This file has ${described(session.inputMetadata)}.`,
      );
    }
    [this.height, this.width] = shape.slice(1, 3);
    const { short, long } = parsed(properties, "detector");
    const { mean, std } = parsed(properties, "preprocessing");
    if (![short, long, ...mean, ...std].every(Number.isFinite) || mean.length !== 3 || std.length !== 3) {
      throw new Refusal('The file\'s "detector" and "preprocessing" do not say how pictures are prepared.');
    }
    Object.assign(this, { short, long, mean, std });
    this.classNames = classNamesOf(properties);
    this.classes = this.classNames?.length;
    this.source = properties.get("source") ?? "";
    this.gateNames = [];
  }

  get input() {
    return `${this.height} × ${this.width} × 3, and the picture's size in it`;
  }

  /** Draws a picture at the upper left of a canvas, as `Detector.detect` resizes it; the rest is border. */
  draw(bitmap, canvas) {
    const { height, width } = bitmap;
    const factor = Math.min(
      this.short / Math.min(height, width),
      this.long / Math.max(height, width),
      this.height / height,
      this.width / width,
    );
    this.size = [height, width].map((side) => Math.max(1, Math.floor(side * factor)));
    this.scale = [height / this.size[0], width / this.size[1]];
    Object.assign(canvas, { height: this.height, width: this.width });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "low"; // bilinear: the package does not antialias, either
    context.drawImage(bitmap, 0, 0, this.size[1], this.size[0]);
    return `What the detector sees: ${this.size.join(" × ")} of ${this.height} × ${this.width} pixels`;
  }

  /** A canvas that `draw` has drawn on -> {found, milliseconds}, `found` being [{index, value, box}, ...]. */
  async run(canvas) {
    const tensors = {
      images: new this.runtime.Tensor("float32", this.#normalised(canvas), [1, this.height, this.width, 3]),
      size: new this.runtime.Tensor("int32", Int32Array.from(this.size), [2]),
    };
    const started = performance.now();
    const outputs = await this.session.run(tensors);
    const milliseconds = performance.now() - started;
    const { boxes, scores, classes, count } = outputs;
    const found = [...Array(count.data[0]).keys()].map((i) => ({
      index: classes.data[i],
      value: scores.data[i],
      box: [...boxes.data.slice(4 * i, 4 * i + 4)],
    }));
    if (!found.every(({ value, box }) => [value, ...box].every(Number.isFinite))) {
      throw new Refusal("The detector's answer to this picture has numbers that are not finite.");
    }
    return { found, milliseconds };
  }

  /** Zeros beside the picture, in the normalised values. */
  #normalised(canvas) {
    const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const pixels = new Float32Array(3 * canvas.height * width);
    for (let y = 0; y < this.size[0]; y++) {
      for (let x = 0; x < this.size[1]; x++) {
        const at = y * width + x;
        for (let c = 0; c < 3; c++) pixels[3 * at + c] = (data[4 * at + c] - this.mean[c]) / this.std[c];
      }
    }
    return pixels;
  }

  /** A box of the canvas in pixels of the picture. */
  toPicture(box) {
    return box.map((value, i) => value * this.scale[1 - (i % 2)]);
  }

  nameOf(index) {
    return this.classNames?.[index] ?? `class ${index}`;
  }

  release() {
    return this.session.release();
  }
}

/** Draws boxes with their names on the canvas that they were found in. */
export function drawBoxes(canvas, boxes) {
  const context = canvas.getContext("2d");
  const side = Math.max(canvas.width, canvas.height);
  context.lineWidth = Math.max(1, side / 300);
  context.font = `${Math.max(8, Math.round(side / 30))}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  for (const { name, index, box } of boxes) {
    const [x1, y1, x2, y2] = box;
    const colour = `hsl(${(index * 137) % 360} 90% 45%)`; // far apart for neighbouring classes
    context.strokeStyle = context.fillStyle = colour;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const height = parseInt(context.font, 10);
    const bottom = Math.max(y1, height);
    context.fillRect(x1, bottom - height, context.measureText(name).width + 2, height);
    context.fillStyle = "#fff";
    context.fillText(name, x1 + 1, bottom);
  }
}
