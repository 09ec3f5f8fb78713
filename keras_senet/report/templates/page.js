// The page reads without this: it sorts tables by the column that is clicked, and shows the values under the pointer.
"use strict";

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text.replace(/[,%]/g, ""));
  return text !== "" && Number.isFinite(number) ? number : text;
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

function sortBy(table, header) {
  const column = header.cellIndex;
  const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => sign * compare(valueOf(a, column), valueOf(b, column)));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(table, header));
    header.append(button);
  }
}

for (const chart of document.querySelectorAll(".chart")) {
  const { axis, at, points, texts } = JSON.parse(chart.dataset.readout);
  const area = chart.querySelector(".area");
  const pointer = chart.querySelector(".pointer");
  const values = [...chart.querySelectorAll(".value")];
  const last = values.map((value) => value.textContent);

  area.addEventListener("pointermove", (event) => {
    const box = area.getBoundingClientRect();
    const x = (100 * (event.clientX - box.left)) / box.width;
    const nearest = at.reduce((best, each, i) => (Math.abs(each - x) < Math.abs(at[best] - x) ? i : best), 0);
    pointer.hidden = false;
    pointer.style.left = `${at[nearest]}%`;
    chart.querySelector(".at").textContent = `${axis} ${points[nearest]}`;
    values.forEach((value, i) => (value.textContent = texts[i][nearest]));
  });
  area.addEventListener("pointerleave", () => {
    pointer.hidden = true;
    chart.querySelector(".at").textContent = "";
    values.forEach((value, i) => (value.textContent = last[i]));
  });
}
