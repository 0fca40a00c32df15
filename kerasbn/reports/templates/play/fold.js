// Fold a BN layer: for one unit, two layers become one kernel and one bias, number by number.
parts.fold = (root, play) => {
  const { answer, bars, distance, make, number, slider } = elements;
  const find = (selector) => root.querySelector(selector);
  const say = elements.announcer(find(".spoken"));
  const { layers, moving, folded, batches } = play.models.bn;
  const pairs = engine.folds(layers);

  const choice = make("select", {}, ...pairs.map(({ bn, dense }, value) => make("option", {
    value, text: `${layers[bn].name} into ${layers[dense].name}`,
  })));
  choice.addEventListener("change", () => {
    unit.input.max = layers[pairs[choice.value].dense].units;
    unit.set(Math.min(unit.value, unit.input.max));
    show();
  });
  const unit = slider({
    label: "Unit", min: 1, max: layers[pairs[0].dense].units, step: 1, value: 1, format: String,
    change: () => show(),
  });
  find(".pick").append(make("label", {}, make("span", { text: "Fold" }), choice), unit.root);

  const columns = ["Before folding", "After folding this layer", "After folding all layers"]
    .map((title) => bars(title, "with_bn"));
  if (pairs.length === 1) columns.pop();
  find(".answers").append(...columns.map((each) => each.root));

  function weightsOf({ kernel, units }, j) {
    return kernel.filter((_, i) => i % units === j);
  }

  // Return a figure of a unit's weights: a 28 x 28 image, or one bar for each weight. Colors and
  // bars are relative to the largest weight.
  function weightsFigure(caption, weights, noun = "weights") {
    const [low, high] = [weights.reduce((a, b) => Math.min(a, b)),
      weights.reduce((a, b) => Math.max(a, b))];
    const largest = Math.max(high, -low) || 1;
    const range = `${weights.length} ${noun} from ${number(low)} to ${number(high)}; purple is negative`;
    const canvas = make("canvas", { class: "weights", role: "img", "aria-label": range });
    const side = Math.sqrt(weights.length);
    const isImage = weights.length === 784;
    const half = 20; // the height of the longest bar, in pixels
    [canvas.width, canvas.height] = isImage ? [side, side] : [weights.length, 2 * half + 1];
    if (!isImage) canvas.classList.add("wide");
    const context = canvas.getContext("2d");
    weights.forEach((weight, i) => {
      const share = weight / largest;
      context.fillStyle = share < 0 ? "#aa4499" : "#009e73";
      if (isImage) {
        context.globalAlpha = Math.abs(share);
        context.fillRect(i % side, Math.floor(i / side), 1, 1);
      } else context.fillRect(i, half, 1, -Math.round(half * share) || 1);
    });
    return make("figure", {}, make("figcaption", { text: caption }), canvas,
      make("small", { text: range }));
  }

  function biasRow({ bias }, j) {
    return ["b", "bias", bias ? number(bias[j]) : "none (0)"];
  }

  // Return a table of symbols, what they are, and their values.
  function table(rows) {
    return make("table", { class: "symbols" }, make("tbody", {},
      ...rows.map(([symbol, what, value]) => make("tr", {},
        make("th", { scope: "row", text: symbol }), make("td", { text: what }),
        make("td", { text: value })))));
  }

  function card(title, ...content) {
    return make("section", { class: "card" }, make("h3", { text: title }), ...content);
  }

  const formula = (text) => make("p", { class: "calculation", text });
  const result = (text) => make("p", { class: "result" }, "For your image: ", make("b", { text }));
  // A negative number after an operator is in parentheses.
  const signed = (value) => (value < 0 ? `(${number(value)})` : number(value));

  // Return the steps where the Dense layer comes first: scale and shift of its own unit.
  function stepsAfter(before, bn, after, j, values) {
    const [w, v] = [weightsOf(before, j), weightsOf(after, j)];
    // Of a large model, the first layer is known by its products with the test images.
    const [noun, old, joined] = !play.drawable && before === layers[0]
      ? ["products", "Products w·x for all test images", "Products w′·x, with w′ = s·w"]
      : ["weights", "Kernel w", "Kernel w′ = s·w"];
    const [gamma, beta, mean, variance] = [bn.gamma, bn.beta, bn.mean, bn.variance]
      .map((each) => each[j]);
    const { s, t } = engine.affine(bn);
    const bias = before.bias ? before.bias[j] : 0;
    const deviation = Math.sqrt(variance + bn.epsilon);
    return [
      card(`Before: ${before.name}`, weightsFigure(old, w, noun),
        table([biasRow(before, j)]),
        formula("z = w·x + b"), result(`z = ${values.dense}`)),
      card(`and ${bn.name}`,
        table([["γ", "gamma, learned", number(gamma)], ["β", "beta, learned", number(beta)],
          ["μ", "moving mean", number(mean)], ["σ²", "moving variance", number(variance)],
          ["ε", "epsilon", number(bn.epsilon, 1)]]),
        formula(`s = γ / √(σ² + ε) = ${number(gamma)} / ${number(deviation)} = ${number(s[j])}`),
        formula("t = β − s·μ = " +
          `${number(beta)} − ${signed(s[j])}·${signed(mean)} = ${number(t[j])}`),
        formula("y = s·z + t"), result(`y = ${values.bn}`)),
      card(`After: ${before.name} alone`, weightsFigure(joined, v, noun),
        formula("b′ = s·b + t = " +
          `${number(s[j])}·${signed(bias)} + ${signed(t[j])} = ${number(after.bias[j])}`),
        formula("y = w′·x + b′"), result(`y = ${values.folded}`)),
    ];
  }

  // Return the steps where the Dense layer comes second: scales and shifts of all its inputs.
  function stepsBefore(before, bn, after, j, values) {
    const [w, v] = [weightsOf(before, j), weightsOf(after, j)];
    const { s, t } = engine.affine(bn);
    const bias = before.bias ? before.bias[j] : 0;
    const shift = w.reduce((sum, weight, i) => sum + weight * t[i], 0);
    return [
      card(`Before: ${bn.name}`,
        formula("xᵢ becomes sᵢ·xᵢ + tᵢ, with sᵢ = γᵢ / √(σᵢ² + ε) and tᵢ = βᵢ − sᵢ·μᵢ"),
        weightsFigure("Scale s of each input", s, "scales"),
        weightsFigure("Shift t of each input", t, "shifts")),
      card(`and ${before.name}`, weightsFigure("Kernel w", w),
        table([biasRow(before, j)]),
        formula("y = Σ wᵢ·(sᵢ·xᵢ + tᵢ) + b"), result(`y = ${values.dense}`)),
      card(`After: ${before.name} alone`, weightsFigure("Kernel wᵢ′ = sᵢ·wᵢ", v),
        formula(`b′ = b + Σ wᵢ·tᵢ = ${number(bias)} + ${signed(shift)} = ${number(after.bias[j])}`),
        formula("y = w′·x + b′"), result(`y = ${values.folded}`)),
    ];
  }

  function show() {
    const pair = pairs[choice.value];
    const j = unit.value - 1;
    const { input } = play.digit.value;
    const one = engine.foldOne(layers, pair);
    const isAfter = pair.dense < pair.bn;
    const { name, inputs } = layers[pair.dense];
    const rest = batches && !isAfter ? ` Of the inputs of ${name}, y sums the first ${inputs} only.` : "";
    const at = isAfter ? pair.dense : pair.bn; // of the joined layer
    const traces = [layers, one].map((each) => engine.trace(each, [input]));
    const outputs = [traces[0][Math.max(pair.bn, pair.dense)][0], traces[1][at][0]];
    const values = { dense: traces[0][pair.dense][0][j], bn: outputs[0][j], folded: outputs[1][j] };
    for (const key of Object.keys(values)) values[key] = number(values[key], 5);
    const steps = (isAfter ? stepsAfter : stepsBefore)(
      layers[pair.dense], layers[pair.bn], one[at], j, values);
    find(".steps").replaceChildren(...steps);

    const found = [moving, pairs.length > 1 ? one : folded, folded].map((each) =>
      engine.classify(each, [input])[0]);
    columns.forEach((each, i) => each.show(found[i]));
    const units = number(distance(...outputs), 2);
    const [change, all] = [found[1], found[2]].map((each) => distance(found[0], each));
    find(".finding").textContent = `Before folding the answer is ${answer(found[0])}, after it ` +
      `${answer(found[1])}. The outputs of the ${outputs[0].length} units differ by at most ` +
      `${units}, the probabilities by ${number(Math.max(change, all), 2)}: the new weights are ` +
      `rounded to float32.${rest}`;
    say(`Unit ${unit.value}: ${isAfter ? values.bn : values.dense} before and ${values.folded} ` +
      `after folding. ${find(".finding").textContent}`);
  }

  play.digit.watch(show);
};
