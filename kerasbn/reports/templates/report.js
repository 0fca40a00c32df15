"use strict";
// Values under the pointer, the finger or the arrow keys; without this a page shows the last ones.
for (const plot of document.querySelectorAll(".plot[data-panels]")) {
  const panels = JSON.parse(plot.dataset.panels);
  const drawing = plot.querySelector("svg");
  const readout = plot.nextElementSibling;
  const resting = [...readout.childNodes];
  const cursor = drawing.appendChild(element("g", { "aria-hidden": "true" }));
  let place = null; // [panel, stop]

  function element(name, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function colour(of) {
    return `var(--c-${of.slice(1)})`;
  }

  function text(name, content, ...before) {
    const made = document.createElement(name);
    made.append(...before, content);
    return made;
  }

  function show(index, stop) {
    const panel = panels[index];
    const x = panel.x[stop];
    place = [index, stop];
    cursor.replaceChildren(
      element("line", { class: "cursor", x1: x, x2: x, y1: panel.box[1], y2: panel.box[3] }));
    const name = panels.length > 1 && panel.title ? `${panel.title}, ` : "";
    readout.replaceChildren(text("b", name + panel.at[stop]));
    for (const series of panel.series) {
      if (series.text[stop] === null) continue;
      const y = series.y[stop];
      if (y !== null && y >= panel.box[1] - 1 && y <= panel.box[3] + 1) {
        const spot = element("circle", { class: "spot", cx: x, cy: y, r: 4 });
        spot.style.fill = colour(series.colour);
        cursor.append(spot);
      }
      const swatch = document.createElement("i");
      swatch.className = "swatch";
      swatch.style.background = colour(series.colour);
      readout.append(" ", text("span", text("b", series.text[stop]), swatch, `${series.label} `));
    }
  }

  function rest() {
    place = null;
    cursor.replaceChildren();
    readout.replaceChildren(...resting);
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
    if (event.pointerType === "mouse") rest(); // a finger that was lifted leaves its values
  });
  plot.addEventListener("blur", rest);
  plot.addEventListener("keydown", (event) => {
    let [index, stop] = place ?? [0, panels[0].x.length];
    const last = () => panels[index].x.length - 1;
    if (event.key === "ArrowLeft") stop -= 1;
    else if (event.key === "ArrowRight") stop += 1;
    else if (event.key === "Home") stop = 0;
    else if (event.key === "End") stop = last();
    else if (event.key === "ArrowDown" && panels.length > 1) index += 1;
    else if (event.key === "ArrowUp" && panels.length > 1) index -= 1;
    else if (event.key === "Escape") return rest();
    else return;
    event.preventDefault();
    index = Math.min(Math.max(index, 0), panels.length - 1);
    show(index, Math.min(Math.max(stop, 0), last()));
  });
}
