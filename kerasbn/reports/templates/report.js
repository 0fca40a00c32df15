"use strict";
// Show the values under the pointer, the finger or the arrow keys. Without scripts, the page shows
// the last values.
const MISSING = "-";
const data = JSON.parse(document.getElementById("page-data").textContent);
for (const plot of document.querySelectorAll(".plot[data-chart]")) {
  const panels = data.charts[plot.dataset.chart];
  const drawing = plot.querySelector("svg");
  const readout = plot.nextElementSibling;
  const initial = [...readout.childNodes];
  const cursor = drawing.appendChild(element("g", { "aria-hidden": "true" }));
  let position = null; // [panel, stop]

  function element(name, attributes) {
    const created = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
    return created;
  }

  function color(hex) {
    return `var(--c-${hex.slice(1)})`;
  }

  function text(name, ...content) {
    const created = document.createElement(name);
    created.append(...content);
    return created;
  }

  // A value with the room that the longest takes, so that no other value moves anything.
  function value(shown, all) {
    const created = text("b", shown ?? MISSING);
    const longest = Math.max(...all.map((each) => (each ?? MISSING).length));
    created.style.minWidth = `${longest}ch`;
    return created;
  }

  function show(index, stop) {
    const panel = panels[index];
    const x = panel.x[stop];
    position = [index, stop];
    cursor.replaceChildren(
      element("line", { class: "cursor", x1: x, x2: x, y1: panel.box[1], y2: panel.box[3] }));
    const name = panels.length > 1 && panel.title ? `${panel.title}, ` : "";
    const places = panel.at.map((each) => name + each);
    readout.replaceChildren(value(places[stop], places));
    for (const series of panel.series) {
      const y = series.y[stop];
      if (y !== null && y >= panel.box[1] - 1 && y <= panel.box[3] + 1) {
        const marker = element("circle", { class: "marker", cx: x, cy: y, r: 4 });
        marker.style.fill = color(series.color);
        cursor.append(marker);
      }
      const swatch = document.createElement("i");
      swatch.className = "swatch";
      swatch.style.background = color(series.color);
      const shown = value(series.text[stop], series.text);
      readout.append(" ", text("span", swatch, `${series.label} `, shown));
    }
  }

  function reset() {
    position = null;
    cursor.replaceChildren();
    readout.replaceChildren(...initial);
  }

  function nearest(values, wanted) {
    let best = 0;
    values.forEach((value, i) => {
      if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = i;
    });
    return best;
  }

  function distance(panel, x, y) {
    const [left, top, right, bottom] = panel.box;
    return Math.hypot(Math.max(left - x, 0, x - right), Math.max(top - y, 0, y - bottom));
  }

  function point(event) {
    const box = drawing.getBoundingClientRect();
    const scale = drawing.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const y = (event.clientY - box.top) * scale;
    const index = nearest(panels.map((panel) => distance(panel, x, y)), 0);
    show(index, nearest(panels[index].x, x));
  }

  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") reset(); // keep the values after a touch
  });
  plot.addEventListener("blur", reset);
  plot.addEventListener("keydown", (event) => {
    let [index, stop] = position ?? [0, panels[0].x.length];
    const last = () => panels[index].x.length - 1;
    if (event.key === "ArrowLeft") stop -= 1;
    else if (event.key === "ArrowRight") stop += 1;
    else if (event.key === "Home") stop = 0;
    else if (event.key === "End") stop = last();
    else if (event.key === "ArrowDown" && panels.length > 1) index += 1;
    else if (event.key === "ArrowUp" && panels.length > 1) index -= 1;
    else if (event.key === "Escape") return reset();
    else return;
    event.preventDefault();
    index = Math.min(Math.max(index, 0), panels.length - 1);
    show(index, Math.min(Math.max(stop, 0), last()));
  });
}
