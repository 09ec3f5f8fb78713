/** From a picture's file to what the network takes. */

import { Refusal } from "./refusal.js";

/** Blob -> ImageBitmap, upright. Throws a Refusal for what the browser cannot decode. */
export async function decode(blob) {
  try {
    // Colour profiles are not applied: TensorFlow, with which these networks were trained, does not know them.
    return await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Refusal(`The browser cannot decode this as a picture: ${blob.name ?? "pasted data"}.`);
  }
}

/**
 * Draws the middle of a picture on a canvas, `size` pixels a side: what the network sees.
 *
 * The short side becomes floor(size / cropFraction), the long one in proportion, rounded down, as in
 * `Preprocessing.crop`. The browser resizes: close to the package's antialiased resizing, not bit-equal. Without
 * resizing the values are the file's.
 */
export function crop(bitmap, canvas, size, cropFraction) {
  const short = Math.floor(size / cropFraction);
  const shortest = Math.min(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.floor((short * side) / shortest));
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // under what is transparent
  context.fillRect(0, 0, size, size);
  context.drawImage(bitmap, -middle(width - size), -middle(height - size), width, height);
}

/** Half, to the even number where it is in between, as TensorFlow rounds. */
function middle(rest) {
  const half = Math.floor(rest / 2);
  return rest % 2 && half % 2 ? half + 1 : half;
}

/** A square canvas -> Float32Array of 0..255 RGB, "nhwc" or "nchw". */
export function pixelsOf(canvas, layout) {
  const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const area = width * height;
  const pixels = new Float32Array(3 * area);
  const [step, plane] = layout === "nhwc" ? [3, 1] : [1, area];
  for (let i = 0; i < area; i++) {
    for (let channel = 0; channel < 3; channel++) pixels[step * i + plane * channel] = data[4 * i + channel];
  }
  return pixels;
}
