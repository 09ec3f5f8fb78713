/** The gates of SE blocks as bar charts, one per block, in groups of stages. */

const MOST_BARS = 256;

/** [[layer name, values (channels)], ...] -> elements, one for each stage. */
export function gateCharts(gates, sorted) {
  const stages = new Map();
  for (const gate of gates) {
    const stage = stageOf(gate[0]);
    stages.set(stage, [...(stages.get(stage) ?? []), gate]);
  }
  return [...stages].map(([stage, blocks]) => {
    const details = element("details", { class: "stage", open: "", "data-stage": stage });
    const summary = element("summary", {}, [element("h3", {}, [stage]), countOf(blocks)]);
    details.append(summary, ...blocks.map(([name, values]) => gateRow(name, values, sorted)));
    return details;
  });
}

/** "stage2_block1_se" -> "stage2" */
function stageOf(name) {
  return name.match(/^(stage\d+)_/)?.[1] ?? "other blocks";
}

function countOf(blocks) {
  return element("span", {}, [blocks.length === 1 ? "1 block" : `${blocks.length} blocks`]);
}

function gateRow(name, values, sorted) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const lowest = values.reduce((a, b) => Math.min(a, b));
  const highest = values.reduce((a, b) => Math.max(a, b));
  const each = Math.ceil(values.length / MOST_BARS);
  const channels = `${values.length} channels${each > 1 ? `, ${each} to a bar` : ""}`;
  const range = `${fixed(lowest)} to ${fixed(highest)}`;

  // A sigmoid's gates are in 0..1; those of tanh and ReLU may not be.
  const scale = [Math.min(0, lowest), Math.max(1, highest)];
  const chart = element("div", { class: "chart" }, [
    element("span", { class: "high" }, [tick(scale[1])]),
    element("span", { class: "low" }, [tick(scale[0])]),
    bars(sorted ? Float32Array.from(values).sort().reverse() : values, each, scale, mean),
  ]);
  chart.lastChild.setAttribute("role", "img");
  chart.lastChild.setAttribute("aria-label", `Gates of ${name}: ${channels}, ${range}, mean ${fixed(mean)}`);
  return element(
    "div",
    { class: "gate", "data-layer": name, "data-mean": mean, "data-lowest": lowest, "data-highest": highest },
    [
      element("div", { class: "layer" }, [
        element("code", {}, [name]),
        element("small", {}, [channels]),
        element("small", {}, [range]),
      ]),
      chart,
      element("div", { class: "mean" }, [element("small", {}, ["mean "]), fixed(mean)]),
    ],
  );
}

/** A bar for each `each` neighbours: solid to their mean, pale to the highest of them. */
function bars(values, each, [low, high], mean) {
  const count = Math.ceil(values.length / each);
  const width = count > 64 ? 1 : 0.8; // a gap where there is room
  const y = (value) => (100 * (high - value)) / (high - low);
  const paths = { highest: "", average: "" };
  for (let bar = 0; bar < count; bar++) {
    const bin = values.slice(bar * each, (bar + 1) * each);
    const tops = { highest: Math.max(...bin), average: bin.reduce((a, b) => a + b) / bin.length };
    for (const part in paths) {
      paths[part] += `M${bar} ${round(y(0))}V${round(y(tops[part]))}h${width}V${round(y(0))}z`;
    }
  }
  return drawn("svg", { viewBox: `0 0 ${count} 100`, preserveAspectRatio: "none" }, [
    drawn("path", { class: "highest", d: each > 1 ? paths.highest : "" }),
    drawn("path", { class: "average", d: paths.average }),
    drawn("line", { class: "mean-line", x1: 0, x2: count, y1: round(y(mean)), y2: round(y(mean)) }),
  ]);
}

const round = (value) => Number(value.toFixed(3));
const fixed = (value) => value.toFixed(3);
const tick = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(2));

/** An element with attributes and children; strings become text, never markup. */
export function element(tag, attributes = {}, children = []) {
  return filled(document.createElement(tag), attributes, children);
}

function drawn(tag, attributes, children = []) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
