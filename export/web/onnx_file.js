/** What an ONNX file says about itself, read from its bytes: ONNX Runtime Web does not hand it out. */

import { Refusal } from "./refusal.js";

// Fields of ModelProto and StringStringEntryProto, in onnx.proto
const GRAPH = 7;
const METADATA_PROPS = 14;
const KEY = 1;
const VALUE = 2;

const NUMBER = 0; // protobuf's wire types
const EIGHT_BYTES = 1;
const BYTES = 2;
const FOUR_BYTES = 5;

/**
 * bytes -> Map of the file's `metadata_props`.
 *
 * The graph, which is nearly all of the file, is stepped over; nothing but the properties is copied.
 *
 * Throws a Refusal for anything but a whole ONNX file.
 */
export function metadataOf(bytes) {
  if (isTflite(bytes)) {
    throw new Refusal(
      "This is a TFLite file, which ONNX Runtime Web, the runtime of this page, cannot run. Export the network or the " +
        "detector as an ONNX file: --format onnx, or to_onnx.",
    );
  }
  const properties = new Map();
  const text = new TextDecoder();
  let graphs = 0;
  for (const [field, content] of fields(bytes)) {
    if (field === GRAPH && content) graphs += 1;
    if (field !== METADATA_PROPS || !content) continue;
    const entry = new Map(fields(content));
    properties.set(text.decode(entry.get(KEY) ?? undefined), text.decode(entry.get(VALUE) ?? undefined));
  }
  if (graphs !== 1) throw damaged();
  return properties;
}

/** A flatbuffer says what it is after the place of its first table. */
function isTflite(bytes) {
  return new TextDecoder().decode(bytes.subarray(4, 8)) === "TFL3";
}

function damaged() {
  return new Refusal("This is not an ONNX file, or a damaged one: no network can be read from it.");
}

/** bytes of a protobuf message -> its fields: [number, a view of the content, or null for a number]. */
function* fields(bytes) {
  let at = 0;

  function varint() {
    let value = 0;
    for (let scale = 1; scale < 2 ** 70; scale *= 128) {
      if (at >= bytes.length) throw damaged();
      const byte = bytes[at++];
      value += (byte & 127) * scale; // shifts would keep 32 bits only
      if (byte < 128) return value;
    }
    throw damaged();
  }

  while (at < bytes.length) {
    const tag = varint();
    const [field, type] = [Math.floor(tag / 8), tag % 8];
    if (type === NUMBER) {
      varint();
      yield [field, null];
      continue;
    }
    const lengths = { [EIGHT_BYTES]: () => 8, [FOUR_BYTES]: () => 4, [BYTES]: varint };
    if (field === 0 || !(type in lengths)) throw damaged();
    const length = lengths[type]();
    if (length > bytes.length - at) throw damaged();
    yield [field, bytes.subarray(at, at + length)];
    at += length;
  }
}
