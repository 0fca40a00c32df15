// Part 3: normalize by hand. The values of one unit over a batch, after each step of BN.
parts.normalize = (root, play) => {
  const { make, number, button, slider } = elements;
  const find = (selector) => root.querySelector(selector);
  const { layers } = play.models.bn;
  const batch = play.examples.map(({ input }) => input);
  const trace = batch.length ? engine.trace(layers, batch, "batch") : [];
  const LARGEST = 1e6; // of a value in the table
  const STAGES = ["− mean", "÷ deviation", "× γ + β"];
  const EPSILONS = [-8, 1]; // powers of ten

  // A unit of a BN layer: its inputs over the batch, its trained parameters, its activation.
  function unitOf(index, j) {
    const [layer, next] = [layers[index], layers[index + 1]];
    const inputs = trace.length ? trace[index - 1].map((example) => example[j]) : [0, 1, 2, 5];
    const f = next?.kind === "activation" ? next.function : null;
    return { inputs, f, gamma: layer.gamma[j], beta: layer.beta[j] };
  }

  function momentsOf(values) {
    const { mean, variance } = engine.moments(values.map((value) => [value]));
    return { mean: mean[0], variance: variance[0] };
  }

  // Return the values after each step of BN, and after the activation if one follows.
  function stagesOf(values, { gamma, beta, epsilon }, f) {
    const { mean, variance } = momentsOf(values);
    const centered = values.map((x) => x - mean);
    const normalized = centered.map((x) => x / Math.sqrt(variance + epsilon));
    const scaled = normalized.map((x) => gamma * x + beta);
    return [values, centered, normalized, scaled, ...(f ? [scaled.map(engine.activations[f])] : [])];
  }

  const indices = layers.flatMap((layer, i) => (layer.kind === "batch_normalization" ? [i] : []));
  const now = {}; // gamma, beta and epsilon
  const example = [1, 2, 3, 6];
  let [index, stage] = [0, 0]; // of the BN layer, and of what is shown
  let unit = null;
  let end = 1; // of the axis

  const layerChoice = make("select", {}, ...indices.map((i) =>
    make("option", { value: i, text: layers[i].name })));
  const unitSlider = slider({
    label: "Unit", min: 1, max: 1, step: 1, value: 1, format: String, change: (j) => choose(index, j - 1),
  });
  find(".choose").append(make("label", { class: "slider" }, make("span", { text: "BN layer" }), layerChoice),
    unitSlider.root);
  layerChoice.addEventListener("change", () => chooseLayer(Number(layerChoice.value)));

  const chart = histogram.chart("with_bn");
  if (trace.length) find(".shown").append(chart.root);

  const epsilon = slider({
    label: "ε", min: EPSILONS[0], max: EPSILONS[1], step: 0.5, value: Math.log10(layers[indices[0]].epsilon),
    format: (power) => number(10 ** power, 1), change: (power) => update({ epsilon: 10 ** power }),
  });
  const gamma = slider({
    label: "γ (scale)", min: -1, max: 1, step: "any", value: 0, change: (value) => update({ gamma: value }),
  });
  const beta = slider({
    label: "β (shift)", min: -1, max: 1, step: "any", value: 0, change: (value) => update({ beta: value }),
  });
  find(".sliders").append(...[epsilon, gamma, beta].map((each) => each.root));
  const say = elements.announcer(find(".spoken"));

  // Set parameters, let the sliders show them, and look at the step that they belong to.
  function update(changed, at = "epsilon" in changed ? 2 : 3) {
    Object.assign(now, changed);
    setStage(Math.max(stage, at));
  }
  function setAll(changed) {
    Object.assign(now, changed);
    gamma.set(now.gamma);
    beta.set(now.beta);
    setStage(3);
  }
  find(".tools").append(
    button("γ = 1, β = 0", () => setAll({ gamma: 1, beta: 0 })),
    button("As trained", () => setAll({ gamma: unit.gamma, beta: unit.beta })),
    button("Undo the normalization", () => {
      const { mean, variance } = momentsOf(unit.inputs);
      setAll({ gamma: Math.sqrt(variance + now.epsilon), beta: mean });
    }),
  );

  function setStage(chosen) {
    stage = chosen;
    find(`.stages input[value="${stage}"]`).checked = true;
    show();
  }

  function showStages() {
    const names = ["none", ...STAGES, ...(unit.f ? [unit.f] : [])];
    stage = Math.min(stage, names.length - 1);
    find(".stages").replaceChildren(find(".stages legend"), ...names.map((name, i) =>
      make("label", {}, make("input", {
        type: "radio", name: "stage", value: i, checked: i === stage || null, onchange: () => setStage(i),
      }), make("span", { text: name }))));
  }

  // Take another unit; its axis shows all it can be: as it comes, normalized, and as trained.
  function choose(layer, j) {
    index = layer;
    unit = unitOf(index, j);
    unitSlider.input.max = layers[index].gamma.length;
    unitSlider.set(j + 1);
    const { mean, variance } = momentsOf(unit.inputs);
    const widest = [...unit.inputs, ...unit.inputs.map((x) => x - mean), 4].map(Math.abs);
    end = Math.ceil(Math.max(...widest));
    const most = Math.max(4, 1.25 * Math.sqrt(variance + 10 ** EPSILONS[1]), 1.25 * Math.abs(unit.gamma));
    const farthest = Math.max(4, 1.25 * Math.abs(mean), 1.25 * Math.abs(unit.beta));
    for (const [dial, limit] of [[gamma, most], [beta, farthest]]) {
      Object.assign(dial.input, { min: -Math.ceil(limit), max: Math.ceil(limit) });
    }
    Object.assign(now, { gamma: 1, beta: 0 });
    gamma.set(now.gamma);
    beta.set(now.beta);
    showStages();
    show();
  }

  // Take the unit of a layer whose distribution is easiest to see: clearly not normalized, but not
  // so wide that it would be a single bar once it is.
  function chooseLayer(layer) {
    choose(layer, elements.argmax(Array.from(layers[layer].gamma, (_, j) => {
      const { mean, variance } = momentsOf(unitOf(layer, j).inputs);
      return variance > 0 ? -Math.abs(Math.log(variance / 6)) + Math.min(2, Math.abs(mean)) : -Infinity;
    })));
  }

  function show() {
    const stages = stagesOf(unit.inputs, now, unit.f);
    const values = stages[stage];
    const { mean, variance } = momentsOf(values);
    const beyond = values.filter((value) => Math.abs(value) > end).length;
    let text = `${batch.length} test images: mean ${number(Math.abs(mean) < 1e-9 ? 0 : mean, 2)}, `
      + `standard deviation ${number(Math.sqrt(variance), 2)}.`;
    if (beyond) text += ` ${beyond} of the values are beyond the axis.`;
    if (stage === 3) {
      const farthest = Math.max(...values.map((value, i) => Math.abs(value - unit.inputs[i])));
      text += farthest < 1e-9 * Math.max(1, ...unit.inputs.map(Math.abs))
        ? " These are the values before BN again: the normalization is undone."
        : ` They differ from the values before BN by up to ${number(farthest, 2)}.`;
    }
    if (trace.length) {
      const shares = [values, unit.inputs].map((each) => histogram.ofValues(each, end));
      chart.show(shares[0], end, text, stage ? shares[1] : null);
    } else text = "The test images are not on this page, so there is no histogram: see the table.";
    find("[data-finding]").textContent = text;
    say(text);
    showExample();
  }

  const cells = example.map(() => Array.from({ length: 4 }, () => make("td")));
  const inputs = example.map((value, i) => make("input", {
    type: "number", step: "any", value, "aria-label": `Value ${i + 1}`,
    oninput: (event) => {
      const entered = event.target.valueAsNumber;
      if (!Number.isFinite(entered)) return; // the reader is still typing
      example[i] = Math.min(Math.max(entered, -LARGEST), LARGEST);
      showExample();
    },
  }));
  const activationHead = make("th", { scope: "col" });
  find(".example").append(make("table", {},
    make("caption", { text: "Four values to change" }),
    make("thead", {}, make("tr", {}, ...["value", ...STAGES].map((text) =>
      make("th", { scope: "col", text })), activationHead)),
    make("tbody", {}, ...inputs.map((input, i) => make("tr", {}, make("td", {}, input), ...cells[i])))));

  function showExample() {
    const [, ...stages] = stagesOf(example, now, unit.f);
    cells.forEach((row, i) => row.forEach((cell, k) => {
      cell.hidden = k >= stages.length;
      cell.textContent = k < stages.length ? number(stages[k][i]) : "";
    }));
    activationHead.hidden = !unit.f;
    activationHead.textContent = unit.f ?? "";
    const { mean, variance } = momentsOf(example);
    find("[data-example]").textContent = `Their mean is ${number(mean)}, their variance ${number(variance)}, `
      + `the deviation with ε is ${number(Math.sqrt(variance + now.epsilon))}.`;
  }

  now.epsilon = 10 ** epsilon.value;
  chooseLayer(indices[0]);
};
