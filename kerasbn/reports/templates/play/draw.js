// Draw a digit: both models classify it at once, the one with BN before and after folding.
parts.draw = (root, play) => {
  const { answer, bars, button, distance, number, thumbnail } = elements;
  const RADIUS = 7; // of the pen, in pixels of the field
  const STEP = 8; // of the arrow keys
  const find = (selector) => root.querySelector(selector);
  const [canvas, seen] = [find(".field"), find(".seen canvas")];
  const say = elements.announcer(find(".spoken"));
  let field = digits.field();
  let pen = [digits.SIZE / 2, digits.SIZE / 2];
  let [erasing, penDown] = [false, false];

  function repaint() {
    elements.paint(canvas, field.map((ink) => Math.round(255 * ink)));
    find(".invitation").hidden = field.some((ink) => ink > 0);
    if (!canvas.matches(":focus-visible")) return;
    const context = canvas.getContext("2d");
    context.lineWidth = 2;
    context.strokeStyle = penDown ? "#d55e00" : "#0072b2";
    context.beginPath();
    context.arc(...pen, RADIUS + 2, 0, 2 * Math.PI);
    context.stroke();
  }

  const classifyDrawing = elements.perFrame(() => {
    const pixels = digits.toMnist(field);
    const name = pixels ? "your drawing" : "blank image";
    const image = pixels ?? new Uint8Array(784);
    play.digit.set({ pixels: image, input: image, label: null, name });
  });

  function strokeTo(point) {
    digits.stroke(field, pen, point, erasing ? 1.5 * RADIUS : RADIUS, erasing);
    pen = point;
    repaint();
    classifyDrawing();
  }

  function clear() {
    field = digits.field();
    repaint();
    classifyDrawing();
  }

  const eraser = button("Eraser", () => {
    erasing = !erasing;
    eraser.setAttribute("aria-pressed", erasing);
    say(erasing ? "Eraser" : "Pen");
  }, { "aria-pressed": false });
  find(".tools").append(eraser, button("Clear", clear));

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map((share) => share * digits.SIZE);
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    canvas.setPointerCapture(event.pointerId);
    pen = place(event);
    strokeTo(pen);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    const between = event.getCoalescedEvents?.() ?? []; // not in every browser
    for (const each of between.length ? between : [event]) strokeTo(place(each));
  });

  const keys = {
    ArrowLeft: () => move(-1, 0),
    ArrowRight: () => move(1, 0),
    ArrowUp: () => move(0, -1),
    ArrowDown: () => move(0, 1),
    " ": () => {
      penDown = !penDown;
      if (penDown) strokeTo(pen);
      say(penDown ? "Pen down" : "Pen up");
    },
    e: () => eraser.click(),
    Delete: clear,
    Backspace: clear,
  };

  function move(right, down) {
    const point = [pen[0] + STEP * right, pen[1] + STEP * down]
      .map((at) => Math.min(Math.max(at, 0), digits.SIZE));
    if (penDown) strokeTo(point);
    pen = point;
  }

  canvas.addEventListener("keydown", (event) => {
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
    repaint();
  });
  canvas.addEventListener("focus", repaint);
  canvas.addEventListener("blur", () => {
    penDown = false;
    repaint();
  });

  const examples = find(".examples");
  examples.append(...play.examples.map((example) => thumbnail(example, example.name, () => {
    field = digits.enlarge(example.pixels);
    repaint();
    play.digit.set(example);
  })));
  if (play.examples.length) elements.roving(examples);
  else examples.parentElement.remove();

  const { bn, plain } = play.models;
  const columns = [["With BN", "with_bn", bn.moving], ["With BN, folded", "with_bn", bn.folded],
    ["Without BN", "without_bn", plain.moving]].map(([title, tone, layers]) =>
    ({ layers, bars: bars(title, tone) }));
  find(".answers").append(...columns.map((each) => each.bars.root));

  play.digit.watch(({ pixels, input, name }) => {
    elements.paint(seen, pixels);
    seen.setAttribute("aria-label", name);
    find(".name").textContent = name;
    const found = columns.map(({ layers }) => engine.classify(layers, [input])[0]);
    columns.forEach((each, i) => each.bars.show(found[i]));
    const difference = number(distance(found[0], found[1]), 2);
    find(".finding").textContent = `With BN the answer is ${answer(found[0])}, without BN ` +
      `${answer(found[2])}. Folding changes no probability by more than ${difference}.`;
    say(`${name}: ${find(".finding").textContent}`);
  });
  if (!play.drawable) {
    find(".pad").hidden = true;
    find(".choose").textContent = "Pick a test image";
  }
  repaint();
};
