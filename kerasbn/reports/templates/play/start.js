// Start the interactive parts with the data that they share.
(() => {
  const { models, examples, ...rest } = data.play;

  function model({ layers }) {
    const decoded = engine.decode(layers);
    return { layers: decoded, folded: engine.fold(decoded) };
  }

  const all = examples ? engine.bytes(examples.images) : new Uint8Array();
  // An image has pixels (784 bytes, 255 for ink), what the models read of it, label and name.
  const images = (examples?.labels ?? []).map((label, i, { length }) => {
    const pixels = all.subarray(784 * i, 784 * (i + 1));
    const oneHot = Float64Array.from({ length }, (_, j) => Number(i === j));
    return { pixels, input: rest.drawable ? pixels : oneHot, label, name: `test image of a ${label}` };
  });
  const nothing = new Uint8Array(784);
  const blank = { pixels: nothing, input: nothing, label: null, name: "blank image" };
  const play = {
    ...rest,
    models: models && { bn: model(models.bn), plain: model(models.plain) },
    examples: images,
    digit: elements.store(images[3] ?? blank), // what part 1 shows; a drawing has no label
  };
  document.documentElement.classList.add("scripted");
  for (const root of document.querySelectorAll("[data-part]")) parts[root.dataset.part](root, play);
})();
