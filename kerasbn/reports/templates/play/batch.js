// Choose the rest of the batch: with batch statistics the answer for the drawn digit depends on it.
parts.batch = (root, play) => {
  const { answer, bars, button, make, percent, slider, thumbnail } = elements;
  const MOST = 64;
  const { layers, moving, batches, sizes } = play.models.bn;
  const counts = sizes ?? Array.from({ length: MOST }, (_, i) => i + 1); // of images in a batch
  const find = (selector) => root.querySelector(selector);
  const [members, examples] = [find(".members"), find(".examples")];
  const say = elements.announcer(find(".spoken"));
  let others = []; // the images beside the drawn digit
  let selected = null; // an index in `others`
  let tried = []; // the answers of all batches with the present digit

  const pools = [
    ["all test images", () => play.examples],
    ...Array.from({ length: 10 }, (_, label) =>
      [`only ${label}s`, () => play.examples.filter((each) => each.label === label)])
      .filter(([, pool]) => pool().length),
    ["copies of your image", () => [play.digit.value]],
  ];
  const choice = make("select", {}, ...pools.map(([text], i) => make("option", { value: i, text })));
  const size = slider({
    label: "Images in the batch", min: 1, max: counts.length, step: 1, value: counts.indexOf(16) + 1,
    format: (i) => counts[i - 1],
    change: () => change([...others, ...filling().slice(others.length)].slice(0, wanted())),
  });
  const wanted = () => counts[size.value - 1] - 1; // images beside the digit
  choice.addEventListener("change", () => change(filling().slice(0, wanted())));
  find(".fill").append(make("label", {}, make("span", { text: "Fill with" }), choice), size.root);

  // Return as many images of the chosen kind as a batch can hold beside the digit.
  function filling() {
    const pool = pools[choice.value][1]();
    return Array.from({ length: MOST - 1 }, (_, i) => pool[i % pool.length]);
  }

  function change(changed, focus = null) {
    others = changed.slice(0, MOST - 1);
    selected = selected !== null && selected < others.length ? selected : null;
    size.set(counts.indexOf(others.length + 1) + 1);
    showMembers(focus);
    evaluate();
  }

  const add = (example) => change([...others, example]);
  const remove = (i) => edit(i, others.toSpliced(i, 1), Math.min(i, others.length - 2));
  const duplicate = (i) => edit(i, others.toSpliced(i, 0, others[i]), i);

  function edit(i, changed, focus) {
    if (i !== selected) selected = null; // it may have another place now
    change(changed, focus);
  }

  const actions = [["Remove", remove], ["Duplicate", duplicate]].map(([text, act]) =>
    button(text, (event) => {
      act(selected);
      if (!event.currentTarget.disabled) event.currentTarget.focus();
    }));
  find(".tools").append(...actions);

  function select(i) {
    selected = i === selected ? null : i;
    showMembers(i);
  }

  function showMembers(focus) {
    const own = thumbnail(play.digit.value, `your image: ${play.digit.value.name}`, () => {});
    own.classList.add("own");
    const rest = others.map((example, i) => {
      const each = thumbnail(example, example.name, () => select(i));
      each.setAttribute("aria-pressed", i === selected);
      each.addEventListener("keydown", (event) => {
        if (event.key === "Delete" || event.key === "Backspace") remove(i);
        else if (event.key === "d") duplicate(i);
      });
      draggable(each, example, (inside) => inside || remove(i));
      return each;
    });
    members.replaceChildren(own, ...rest);
    for (const each of members.children) each.disabled = Boolean(batches);
    elements.roving(members);
    if (focus !== null) members.children[focus + 1].focus({ preventScroll: true });
    const images = others.length === 1 ? "image" : "images";
    find(".count").textContent = others.length ? `${others.length} other ${images}` : "no other";
    for (const action of actions) action.disabled = selected === null;
    actions[1].disabled ||= others.length === MOST - 1;
  }

  // Let an image be dragged by mouse or finger; then call `drop` with whether it is in the batch.
  function draggable(element, example, drop) {
    let [start, ghost] = [null, null];
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary || element.disabled) return;
      start = [event.clientX, event.clientY];
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      if (!start) return;
      const [x, y] = [event.clientX, event.clientY];
      if (!ghost && Math.hypot(x - start[0], y - start[1]) < 8) return;
      if (!ghost) {
        ghost = make("canvas", { class: "digit ghost", "aria-hidden": true });
        elements.paint(ghost, example.pixels);
        root.append(ghost);
      }
      [ghost.style.left, ghost.style.top] = [`${x}px`, `${y}px`];
      members.classList.toggle("over", isInside(event));
    });
    function end(event, done) {
      if (ghost) {
        ghost.remove();
        members.classList.remove("over");
        const stop = (click) => click.stopImmediatePropagation(); // the end of a drag is no click
        element.addEventListener("click", stop, true);
        const inside = isInside(event);
        setTimeout(() => { // after the touch, whose target must not vanish before it ends
          element.removeEventListener("click", stop, true);
          if (done) drop(inside);
        });
      }
      [start, ghost] = [null, null];
    }
    // While an image is dragged, the finger neither scrolls nor flings the page.
    element.addEventListener("touchmove", (event) => ghost && event.preventDefault(),
      { passive: false });
    element.addEventListener("pointerup", (event) => end(event, true));
    element.addEventListener("pointercancel", (event) => end(event, false));
  }

  function isInside({ clientX, clientY }) {
    const box = members.getBoundingClientRect();
    return clientX >= box.left && clientX <= box.right && clientY >= box.top && clientY <= box.bottom;
  }

  examples.append(...play.examples.map((example) => {
    const each = thumbnail(example, `Add ${example.name}`, () => add(example));
    draggable(each, example, (inside) => inside && add(example));
    return each;
  }));
  elements.roving(examples);

  // Return the number of the batch among those whose answers are recorded.
  function batchNumber() {
    const filled = play.examples.indexOf(play.digit.value) * pools.length + Number(choice.value);
    return filled * counts.length + size.value - 1;
  }

  if (batches) {
    for (const each of [".tools", ".source"]) find(each).remove();
    find(".keys").textContent = "Only the answers for these batches are on this page: images can " +
      "neither be added nor removed.";
  }

  // With batch statistics, all images of the batch matter, otherwise the first one alone.
  const inBatch = batches
    ? () => engine.classify(batches, [engine.oneHot(batchNumber(), batches[0].inputs)])[0]
    : (batch) => engine.classify(layers, batch, "batch")[0];
  const alone = (chain) => ([own]) => engine.classify(chain, [own])[0];
  const columns = [["With BN, batch statistics", "with_bn", inBatch],
    ["With BN, moving statistics", "with_bn", alone(moving)],
    ["Without BN", "without_bn", alone(play.models.plain.moving)]].map(
    ([title, tone, classify]) => ({ classify, bars: bars(title, tone) }));
  find(".answers").append(...columns.map((each) => each.bars.root));

  function evaluate() {
    const batch = [play.digit.value, ...others].map((each) => each.input);
    const found = columns.map(({ classify }) => classify(batch));
    columns.forEach((each, i) => each.bars.show(found[i]));
    tried.push(found);
    find(".finding").textContent = sentence(found, batch.length);
    say(`${batch.length} images in the batch. ${find(".finding").textContent}`);
  }

  function sentence(found, count) {
    const [now, moving, plain] = found.map(answer);
    const alone = count > 1 ? "" : " In a batch of one, every value equals the mean, so BN turns " +
      "it into zero: any other image would get the same answer.";
    const present = `With the statistics of this batch the answer is ${now}.${alone}`;
    if (tried.length === 1) {
      return `${present} With moving statistics it is ${moving}, without BN ${plain}.`;
    }
    const label = elements.argmax(found[1]);
    const ranges = [0, 1, 2].map((column) => {
      const shares = tried.map((each) => each[column][label]);
      const [low, high] = [Math.min(...shares), Math.max(...shares)].map(percent);
      return low === high ? `always ${low}` : `${low} to ${high}`;
    });
    return `${present} The probability of ${label} over the ${tried.length} batches you tried: ` +
      `${ranges[0]} with batch statistics, ${ranges[1]} with moving statistics, ${ranges[2]} ` +
      "without BN.";
  }

  play.digit.watch(() => {
    tried = [];
    const isCopies = Number(choice.value) === pools.length - 1;
    change(isCopies || !others.length ? filling().slice(0, wanted()) : others);
  });
};
