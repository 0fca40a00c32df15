// The models of the page: decoding their weights, the forward pass, and folding BN layers.
// All arithmetic is in float64 on float32 weights. A batch is an array of examples, an example an
// array of numbers.
const engine = (() => {
  function bytes(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  function floats(base64) {
    const view = new DataView(bytes(base64).buffer);
    return Float32Array.from({ length: view.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }

  // Return the layers with arrays of numbers in place of base64.
  function decode(layers) {
    const arrays = ["kernel", "bias", "gamma", "beta", "mean", "variance"];
    return layers.map((layer) => Object.fromEntries(Object.entries(layer).map(([key, value]) =>
      [key, arrays.includes(key) && value !== null ? floats(value) : value])));
  }

  // The complementary error function: the series of erf near 0, otherwise a continued fraction
  // (Abramowitz and Stegun 1964, 7.1.6 and 7.1.14); its relative error is below 1e-13.
  function erfc(x) {
    if (x < 0) return 2 - erfc(-x);
    if (x < 2) {
      let term = x;
      let sum = x;
      for (let n = 1; Math.abs(term) > 1e-17 * sum; n += 1) {
        term *= (2 * x * x) / (2 * n + 1);
        sum += term;
      }
      return 1 - (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
    }
    let fraction = x;
    for (let n = 100; n > 0; n -= 1) fraction = x + n / 2 / fraction;
    return Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction;
  }

  // Return what a layer reads that reads a number.
  function oneHot(i, length) {
    return Float64Array.from({ length }, (_, j) => Number(i === j));
  }

  const sigmoid = (x) => 1 / (1 + Math.exp(-x));

  // As Keras defines them, with the defaults of Keras.
  const activations = {
    relu: (x) => Math.max(x, 0),
    sigmoid,
    tanh: Math.tanh,
    elu: (x) => (x > 0 ? x : Math.expm1(x)),
    gelu: (x) => (x * erfc(-x / Math.SQRT2)) / 2,
    silu: (x) => x * sigmoid(x),
    leaky_relu: (x) => (x > 0 ? x : 0.2 * x),
    linear: (x) => x,
  };

  function dense({ kernel, bias, units }, example) {
    const sums = bias ? Float64Array.from(bias) : new Float64Array(units);
    example.forEach((x, i) => {
      if (x !== 0) for (let j = 0; j < units; j += 1) sums[j] += x * kernel[i * units + j];
    });
    return sums;
  }

  // Return mean and variance of each unit over the examples of a batch.
  function moments(batch) {
    const mean = batch[0].map((_, j) => batch.reduce((sum, x) => sum + x[j], 0) / batch.length);
    const variance = mean.map((m, j) =>
      batch.reduce((sum, x) => sum + (x[j] - m) ** 2, 0) / batch.length);
    return { mean, variance };
  }

  // Return the scale and the shift that BN applies to each unit: s * x + t.
  function affine(layer, { mean, variance } = layer) {
    const s = Float64Array.from(layer.gamma, (gamma, j) =>
      gamma / Math.sqrt(variance[j] + layer.epsilon));
    return { s, t: s.map((scale, j) => layer.beta[j] - scale * mean[j]) };
  }

  function apply(layer, batch, statistics) {
    if (layer.kind === "dense") return batch.map((example) => dense(layer, example));
    if (layer.kind === "batch_normalization") {
      const { s, t } = affine(layer, statistics === "batch" ? moments(batch) : layer);
      return batch.map((example) => example.map((x, j) => s[j] * x + t[j]));
    }
    const f = layer.kind === "rescaling"
      ? (x) => layer.scale * x + layer.offset : activations[layer.function];
    return batch.map((example) => Float64Array.from(example, f));
  }

  // Return the batch after each layer; `statistics` of BN layers are "moving" or "batch".
  function trace(layers, batch, statistics = "moving") {
    const after = [];
    for (const layer of layers) {
      batch = apply(layer, batch, statistics);
      after.push(batch);
    }
    return after;
  }

  function softmax(logits) {
    const largest = Math.max(...logits);
    const powers = Array.from(logits, (x) => Math.exp(x - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((x) => x / sum);
  }

  // Return the class probabilities of each example.
  function classify(layers, batch, statistics) {
    return trace(layers, batch, statistics).at(-1).map(softmax);
  }

  // Fold s * x + t after a Dense layer: W' = W s over outputs, b' = s b + t.
  function foldAfter(layer, { s, t }) {
    const { kernel, bias, units } = layer;
    return {
      ...layer,
      kernel: kernel.map((w, i) => w * s[i % units]),
      bias: Float32Array.from(s, (scale, j) => scale * (bias ? bias[j] : 0) + t[j]),
    };
  }

  // Fold s * x + t before a Dense layer: W' = W s over inputs, b' = b + W t.
  function foldBefore(layer, { s, t }) {
    const { kernel, units } = layer;
    return {
      ...layer,
      kernel: kernel.map((w, i) => w * s[Math.floor(i / units)]),
      bias: Float32Array.from(dense(layer, t)),
    };
  }

  // Return which Dense layer takes each BN layer, as indices: the one before it, else the one behind.
  function folds(layers) {
    return [...layers.keys()].filter((i) => layers[i].kind === "batch_normalization").map((bn) =>
      ({ bn, dense: layers[bn - 1].kind === "dense" ? bn - 1 : bn + 1 }));
  }

  // Return the layers with one BN layer folded; weights are rounded to float32 once.
  function foldOne(layers, { bn, dense: taker }) {
    const joined = (taker < bn ? foldAfter : foldBefore)(layers[taker], affine(layers[bn]));
    return layers.map((layer, i) => (i === taker ? joined : layer)).filter((_, i) => i !== bn);
  }

  // Return the layers without BN, as in the exported model.
  function fold(layers) {
    const [next] = folds(layers);
    return next ? fold(foldOne(layers, next)) : layers;
  }

  return { activations, affine, bytes, classify, decode, fold, foldOne, folds, moments, oneHot, softmax, trace };
})();
