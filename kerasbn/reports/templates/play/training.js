// Part 4: watch it train. The recorded pre-activations and gradients of every layer, step by step.
parts.training = (root, play) => {
  const { make, number } = elements;
  const FRAME = 700; // milliseconds per recorded step
  const find = (selector) => root.querySelector(selector);
  const recorded = play.training;
  if (!recorded || !recorded.levels.length) {
    find("[data-missing]").hidden = false;
    find("[data-missing]").textContent = recorded
      ? "These probes are of an older version and hold no histograms. Train again with --probe."
      : "This comparison was trained without probes. Train again with --probe to see its training.";
  }
  if (!recorded) {
    find(".playback").remove();
    return;
  }
  find("[data-charts]").hidden = !recorded.levels.length;

  const { steps, levels } = recorded;
  const last = steps.length - 1;
  const models = [
    { name: "With BN", tone: "with_bn", ...recorded.bn },
    { name: "Without BN", tone: "without_bn", ...recorded.plain },
  ];
  const at = (level) => levels.indexOf(level);
  // The percentiles of a layer at a step, or null where there are none.
  function percentiles(model, layer, step) {
    const values = model.percentiles[layer].map((each) => each[step]);
    return values.length && !values.includes(null) ? values : null;
  }

  // The end of a layer's axis, for both models and every step. Where one of them spreads much farther
  // than the other, its outer values count as the last bar: the other would be a single bar.
  function endOf(layer) {
    const widest = models.map((model) => Math.max(0, ...steps.flatMap((_, step) => {
      const values = percentiles(model, layer, step);
      return values ? [Math.abs(values[at(1)]), Math.abs(values[at(99)])] : [];
    })));
    const [narrow, wide] = widest.sort((a, b) => a - b);
    return Math.min(wide, 6 * (narrow || wide)) || 1;
  }

  const norms = models.flatMap((model) => model.gradients.flat()).filter((norm) => norm > 0);
  const [smallest, largest] = [Math.min(...norms), Math.max(...norms)];
  // The length of a gradient's bar: logarithmic, from the smallest to the largest of all.
  function share(norm) {
    if (!(norm > 0)) return 0;
    return largest > smallest ? 0.03 + (0.97 * Math.log(norm / smallest)) / Math.log(largest / smallest) : 1;
  }

  const rows = recorded.layers.map((name, layer) => {
    const end = endOf(layer);
    const cells = models.map((model) => {
      const chart = levels.length ? histogram.chart(model.tone) : null;
      const [words, norm, bar] = [make("p"), make("p"), make("i")];
      const title = `${name}, ${model.name}`;
      const cell = make("div", { class: `cell ${model.tone}`, role: "group", "aria-label": title },
        ...(chart ? [chart.root, words] : []), norm,
        make("div", { class: "gradient", "aria-hidden": "true" }, bar));
      function show(step) {
        const values = percentiles(model, layer, step);
        const most = values
          ? `most: ${number(values[at(10)], 2)} to ${number(values[at(90)], 2)}` : "no finite values";
        const gradient = model.gradients[layer][step];
        words.textContent = most;
        norm.textContent = `gradient norm ${gradient === null ? "not finite" : number(gradient, 2)}`;
        bar.style.width = `${100 * share(gradient)}%`;
        chart?.show(values ? histogram.ofPercentiles(levels, values, end) : [], end,
          `pre-activations, ${title}: ${most}`);
      }
      return { cell, show };
    });
    find(".layers").append(make("section", { class: "layer" }, make("h3", { text: name }),
      ...cells.map((each) => each.cell)));
    return cells;
  });
  find(".deck").append(make("div", { class: "layer names", "aria-hidden": "true" }, make("span"),
    ...models.map((model) => make("strong", { class: model.tone, text: model.name }))));

  const nameOf = (step) => `step ${steps[step].toLocaleString("en-US")}`;
  const epochs = (step) => number(steps[step] / recorded.steps_per_epoch, 2);
  const when = (step) => `${nameOf(step)}, epoch ${epochs(step)} of ${epochs(last)}`;

  // Return what is known of the models: 2.3 with BN and 2.4 without BN; empty if nothing is.
  function ofModels(valueOf, unit = "") {
    const said = models.map((model) => [valueOf(model), model.name.replace("W", "w")])
      .filter(([value]) => Number.isFinite(value))
      .map(([value, name]) => `${number(value, 2)}${unit} ${name}`);
    return elements.listed(said);
  }

  function describe(step) {
    const loss = ofModels((model) => model.loss[step]);
    const ratio = ofModels(({ gradients: [first, ...others] }) =>
      (first[step] === null ? NaN : first[step] / others.at(-1)[step]), " times the last layer's");
    return [loss && `At ${nameOf(step)}, the loss is ${loss}.`,
      ratio && `The first layer's gradient is ${ratio}.`].join(" ");
  }

  // How much wider the middle 80% of the last hidden layer's pre-activations became.
  function describeGrowth() {
    const layer = recorded.layers.length - 2;
    const growth = ofModels((model) => {
      const found = steps.map((_, step) => percentiles(model, layer, step)).filter(Boolean);
      const [first, final] = [found[0], found.at(-1)].map((values) =>
        (values ? values[at(90)] - values[at(10)] : NaN));
      return final / first;
    }, " times as wide");
    return growth && "Over the training, the middle 80% of the pre-activations of "
      + `${recorded.layers[layer]} became ${growth}.`;
  }

  const say = elements.announcer(find(".spoken"));
  let timer = null;
  function show(step) {
    for (const cells of rows) for (const each of cells) each.show(step);
    find("[data-finding]").textContent = describe(step);
  }
  const slider = elements.slider({
    label: "Training step", min: 0, max: last, step: 1, value: 0, format: when,
    change: (step) => { pause(); show(step); },
  });
  function pause() {
    clearInterval(timer);
    timer = null;
    player.textContent = "Play";
  }
  function go(step) {
    slider.set(step);
    show(step);
    if (step === last) {
      pause();
      say(when(step));
    }
  }
  const player = elements.button("Play", () => {
    if (timer !== null) {
      pause();
      say(`Paused at ${when(slider.value)}`);
      return;
    }
    player.textContent = "Pause";
    timer = setInterval(() => go(slider.value + 1), FRAME);
    if (slider.value === last) go(0);
  });
  find(".player").append(player, slider.root);
  find("[data-whole]").textContent = describeGrowth();
  show(0);
};
