// What the interactive parts have in common: elements, numbers in words, and shared values.
const parts = {}; // name -> function (root, play), one for each script of a part

const elements = (() => {
  // Return an element with properties (`class`, `text`, attributes, and listeners as `onclick`).
  function make(name, properties = {}, ...children) {
    const created = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key.startsWith("on")) created.addEventListener(key.slice(2), value);
      else if (key === "text") created.textContent = value;
      else if (value !== null) created.setAttribute(key, value);
    }
    created.append(...children);
    return created;
  }

  function superscript(exponent) {
    return String(exponent).replace(/./g, (each) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(each)]);
  }

  // Return a number with so many significant digits: 0.0123, 36,000, 1.1·10²⁷.
  function number(value, significant = 3) {
    if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e7)) {
      const [mantissa, exponent] = value.toExponential(significant - 1).split("e");
      return `${mantissa.replace("-", "−")}·10${superscript(Number(exponent))}`;
    }
    const rounded = Number(value.toPrecision(significant));
    const size = rounded === 0 ? 0 : Math.floor(Math.log10(Math.abs(rounded)));
    const places = Math.max(0, significant - 1 - size);
    return rounded.toLocaleString("en-US", {
      minimumFractionDigits: Number.isInteger(rounded) ? 0 : places, maximumFractionDigits: places,
    }).replace("-", "−");
  }

  function percent(share) {
    return `${(100 * share).toFixed(1)}%`;
  }

  function argmax(values) {
    return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
  }

  // Return items as a list within a sentence: a, b and c.
  function listed(items) {
    const first = items.slice(0, -1).join(", ");
    return first ? `${first} and ${items.at(-1)}` : items.join("");
  }

  // Return a value that parts share: `watch` calls a function now and after each change.
  function store(value) {
    const watchers = [];
    return {
      get value() { return value; },
      set(changed) {
        value = changed;
        for (const watcher of watchers) watcher(value);
      },
      watch(watcher) {
        watchers.push(watcher);
        watcher(value);
      },
    };
  }

  // Call `work` at most once per frame, with the latest arguments.
  function perFrame(work) {
    let latest = null;
    return (...given) => {
      if (latest === null) {
        requestAnimationFrame(() => {
          const now = latest;
          latest = null;
          work(...now);
        });
      }
      latest = given;
    };
  }

  // Return a function that has a screen reader say a text in a live region, once the reader pauses.
  function announcer(region, pause = 700) {
    let timer = 0;
    return (text) => {
      if (!navigator.userActivation?.hasBeenActive) return; // nothing at the start of the page
      clearTimeout(timer);
      timer = setTimeout(() => { region.textContent = text; }, pause);
    };
  }

  // Return the best class with its probability: 3 (92.1%).
  function answer(probabilities) {
    const best = argmax(probabilities);
    return `${best} (${percent(probabilities[best])})`;
  }

  // Return the largest difference of two lists of numbers.
  function distance(one, other) {
    return Math.max(...Array.from(one, (x, i) => Math.abs(x - other[i])));
  }

  // A table of bars for the ten classes, under the most probable one; `show` takes probabilities.
  function bars(title, tone = "") {
    const cells = Array.from({ length: 10 }, () => [make("i"), make("td")]);
    const rows = cells.map(([bar, value], label) => make("tr", {},
      make("th", { scope: "row", text: label }), make("td", { class: "bar" }, bar), value));
    const winner = make("b");
    const caption = make("caption", {}, make("span", { text: title }), " ", winner);
    const root = make("table", { class: `bars ${tone}` }, caption,
      make("tbody", {}, ...rows));
    function show(probabilities) {
      const best = argmax(probabilities);
      winner.textContent = best;
      cells.forEach(([bar, value], label) => {
        bar.style.width = `${100 * probabilities[label]}%`;
        value.textContent = percent(probabilities[label]);
        rows[label].classList.toggle("best", label === best);
      });
    }
    return { root, show };
  }

  // A labeled slider; `format` turns its value into text, `change` is called with the value.
  function slider({ label, min, max, step, value, format = number, change }) {
    const output = make("output");
    const input = make("input", { type: "range", min, max, step, "aria-label": label });
    const root = make("label", { class: "slider" }, make("span", { text: label }), input, output);
    function set(wanted) {
      input.value = wanted;
      output.textContent = format(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    }
    input.addEventListener("input", () => {
      set(input.value);
      change(Number(input.value));
    });
    set(value);
    return { root, input, set, get value() { return Number(input.value); } };
  }

  function button(text, onclick, properties = {}) {
    return make("button", { type: "button", text, onclick, ...properties });
  }

  // Paint a 28 x 28 image (784 bytes) on a canvas of this size: ink is dark on a white field.
  function paint(canvas, pixels) {
    const side = Math.sqrt(pixels.length);
    [canvas.width, canvas.height] = [side, side];
    const image = new ImageData(side, side);
    pixels.forEach((ink, i) => image.data.set([255 - ink, 255 - ink, 255 - ink, 255], 4 * i));
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // A button that shows an image.
  function thumbnail({ pixels }, name, onclick) {
    const canvas = make("canvas", { class: "digit" });
    paint(canvas, pixels);
    return make("button", { type: "button", class: "thumbnail", "aria-label": name, onclick }, canvas);
  }

  // Make the arrow keys, Home and End move between the buttons in a container: one tab stop.
  function roving(container) {
    const buttons = () => [...container.querySelectorAll("button")];
    function enter(target) {
      for (const each of buttons()) each.tabIndex = each === target ? 0 : -1;
    }
    container.addEventListener("focusin", (event) => enter(event.target));
    container.addEventListener("keydown", (event) => {
      const all = buttons();
      const at = all.indexOf(document.activeElement);
      const next = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1,
        Home: 0, End: all.length - 1 }[event.key];
      if (next === undefined || at < 0) return;
      event.preventDefault();
      all[Math.min(Math.max(next, 0), all.length - 1)].focus();
    });
    enter(buttons()[0]);
  }

  return {
    announcer, answer, argmax, bars, button, distance, listed, make, number, paint, percent, perFrame,
    roving, slider, store, thumbnail,
  };
})();
