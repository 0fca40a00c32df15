// Start the interactive parts with the data that they share.
(() => {
  const { models, examples, ...rest } = data.play;

  function model({ layers }) {
    const decoded = engine.decode(layers);
    return { layers: decoded, folded: engine.fold(decoded) };
  }

  const all = examples ? engine.bytes(examples.images) : new Uint8Array();
  const images = (examples?.labels ?? []).map((label, i) =>
    ({ pixels: all.subarray(784 * i, 784 * (i + 1)), label, name: `test image of a ${label}` }));
  const blank = { pixels: new Uint8Array(784), label: null, name: "blank image" };
  const play = {
    ...rest,
    models: models && { bn: model(models.bn), plain: model(models.plain) },
    examples: images, // each has pixels (784 bytes, 255 for ink), label and name
    digit: elements.store(images[3] ?? blank), // what part 1 shows; a drawing has no label
  };
  document.documentElement.classList.add("scripted");
  for (const root of document.querySelectorAll("[data-part]")) parts[root.dataset.part](root, play);
})();
