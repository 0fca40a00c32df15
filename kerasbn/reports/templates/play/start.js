// Start the interactive parts with the data that they share.
(() => {
  const { models, examples, ...rest } = data.play;

  // Return a model as layers, with the layers that answer: with moving statistics, and folded. If
  // the answers are recorded, those of some batches are, too.
  function model({ layers, answers }) {
    const all = engine.decode(layers);
    if (!answers) return { layers: all, moving: all, folded: engine.fold(all) };
    const [moving, folded, batches] = [answers.moving, answers.folded, answers.batches]
      .map((layer) => engine.decode([layer]));
    return { layers: all, moving, folded, batches, sizes: answers.sizes };
  }

  const all = examples ? engine.bytes(examples.images) : new Uint8Array();
  // An image has pixels (784 bytes, 255 for ink), what the models read of it, label and name.
  const images = (examples?.labels ?? []).map((label, i, { length }) => {
    const pixels = all.subarray(784 * i, 784 * (i + 1));
    const input = rest.drawable ? pixels : engine.oneHot(i, length);
    return { pixels, input, label, name: `test image of a ${label}` };
  });
  const nothing = new Uint8Array(784);
  const blank = { pixels: nothing, input: nothing, label: null, name: "blank image" };
  const play = {
    ...rest,
    models: models && { bn: model(models.bn), plain: model(models.plain) },
    examples: images,
    // What part 1 shows; a drawing has no label.
    digit: elements.store(images.slice(0, 4).at(-1) ?? blank),
  };
  document.documentElement.classList.add("scripted");
  for (const root of document.querySelectorAll("[data-part]")) parts[root.dataset.part](root, play);
})();
