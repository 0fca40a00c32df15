// Part 1: draw a digit; both models classify it at once, with BN before and after folding.
parts.draw = (root, play) => {
  const { make, button, bars } = elements;
  const RADIUS = 7; // of the pen, in pixels of the field
  const STEP = 8; // of the arrow keys
  const canvas = root.querySelector(".field");
  const seen = root.querySelector(".seen canvas");
  const say = elements.announcer(root.querySelector(".spoken"));
  const tools = root.querySelector(".tools");
  let field = digits.field();
  let erasing = false;
  let pen = [digits.SIZE / 2, digits.SIZE / 2];
  let penDown = false;

  const answers = [bars("With BN", "with_bn"), bars("With BN, folded", "with_bn"),
    bars("Without BN", "without_bn")];
  root.querySelector(".answers").append(...answers.map((each) => each.root));

  function repaint() {
    elements.paint(canvas, field.map((ink) => Math.round(255 * ink)));
    if (document.activeElement !== canvas) return;
    const context = canvas.getContext("2d");
    context.lineWidth = 2;
    context.strokeStyle = penDown ? "#d55e00" : "#0072b2";
    context.beginPath();
    context.arc(...pen, RADIUS + 2, 0, 2 * Math.PI);
    context.stroke();
  }

  const drawn = elements.perFrame(() => {
    const pixels = digits.toMnist(field);
    play.digit.set({ pixels: pixels ?? new Uint8Array(784), label: null });
  });

  function strokeTo(point) {
    digits.stroke(field, pen, point, erasing ? 2 * RADIUS : RADIUS, erasing);
    pen = point;
    repaint();
    drawn();
  }

  function clear() {
    field = digits.field();
    repaint();
    drawn();
  }

  const eraser = button("Erase", () => {
    erasing = !erasing;
    eraser.setAttribute("aria-pressed", erasing);
  }, { "aria-pressed": "false" });
  tools.append(eraser, button("Clear", clear));

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map((share) => share * digits.SIZE);
  }

  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    pen = place(event);
    strokeTo(pen);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) strokeTo(place(each));
  });

  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move) {
      const point = pen.map((at, i) => Math.min(Math.max(at + STEP * move[i], 0), digits.SIZE));
      if (penDown) strokeTo(point);
      pen = point;
    } else if (event.key === " ") {
      penDown = !penDown;
      if (penDown) strokeTo(pen);
      say(penDown ? "Pen down" : "Pen up");
    } else if (event.key === "e" || event.key === "E") eraser.click();
    else if (event.key === "Delete" || event.key === "Backspace") clear();
    else return;
    event.preventDefault();
    repaint();
  });
  canvas.addEventListener("focus", repaint);
  canvas.addEventListener("blur", () => {
    penDown = false;
    repaint();
  });

  const examples = root.querySelector(".examples");
  examples.append(...play.examples.map((example) => {
    const chosen = make("button", { type: "button" },
      elements.picture(example.pixels, `test image of a ${example.label}`));
    chosen.addEventListener("click", () => {
      field = digits.enlarge(example.pixels);
      repaint();
      play.digit.set(example);
    });
    return chosen;
  }));
  if (play.examples.length) elements.roving(examples);
  else examples.remove();

  play.digit.watch(({ pixels }) => {
    elements.paint(seen, pixels);
    const { bn, plain } = play.models;
    const results = [bn.layers, bn.folded, plain.layers].map((layers) =>
      engine.classify(layers, [pixels])[0]);
    results.forEach((each, i) => answers[i].show(each));
    const difference = Math.max(...results[0].map((p, label) => Math.abs(p - results[1][label])));
    root.querySelector("[data-finding]").textContent =
      `Before and after folding, the probabilities differ by at most ${elements.number(difference, 2)}.`;
    const [first, , other] = results.map((each) => `${elements.argmax(each)}, ${elements.percent(Math.max(...each))}`);
    say(`With BN: ${first}. Folded: the same. Without BN: ${other}.`);
  });
  field = digits.enlarge(play.digit.value.pixels);
  repaint();
};
