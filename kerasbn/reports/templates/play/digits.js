// Drawing a digit on a field of pixels, and bringing it into the form of MNIST as kerasbn infer
// does (kerasbn/data/digits.py and segmentation.py): ink is cropped, scaled to 20 x 20 pixels with
// its proportions kept, and centered by mass in 28 x 28.
const digits = (() => {
  const SIZE = 160; // the side of the field in pixels: infer reduces no image of this size
  const [FIELD, BOX] = [28, 20];
  const [SPECK, EDGE] = [0.02, 0.0625];

  // Return an empty field: 0 is paper, 1 is ink.
  function field() {
    return new Float32Array(SIZE * SIZE);
  }

  // Paint a straight stroke with round ends and soft edges, or erase along it.
  function stroke(pixels, [x0, y0], [x1, y1], radius, erase = false) {
    const reach = radius + 1;
    const first = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - reach));
    const last = (a, b) => Math.min(SIZE - 1, Math.ceil(Math.max(a, b) + reach));
    const length = (x1 - x0) ** 2 + (y1 - y0) ** 2;
    for (let y = first(y0, y1); y <= last(y0, y1); y += 1) {
      for (let x = first(x0, x1); x <= last(x0, x1); x += 1) {
        const along = length && ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length;
        const at = Math.min(Math.max(along, 0), 1);
        const distance = Math.hypot(x - x0 - at * (x1 - x0), y - y0 - at * (y1 - y0));
        const amount = Math.min(Math.max(radius + 0.5 - distance, 0), 1);
        const i = y * SIZE + x;
        pixels[i] = erase ? Math.min(pixels[i], 1 - amount) : Math.max(pixels[i], amount);
      }
    }
  }

  // Return a 28 x 28 image on the field, for drawing on it.
  function enlarge(image) {
    const pixels = field();
    return pixels.map((_, i) => {
      const [y, x] = [Math.floor(i / SIZE), i % SIZE].map((at) => Math.floor((at * FIELD) / SIZE));
      return image[y * FIELD + x] / 255;
    });
  }

  // Return the field as an image of dark ink on white paper, one byte per pixel.
  function grayscale(pixels) {
    return Uint8Array.from(pixels, (ink) => 255 - Math.round(255 * ink));
  }

  // Return the threshold with the largest variance between the two classes (Otsu 1979).
  function otsu(values) {
    const highest = values.reduce((a, b) => Math.max(a, b), 0);
    const counts = new Array(256).fill(0);
    for (const value of values) counts[Math.min(255, Math.floor((value / highest) * 256))] += 1;
    const middle = (i) => ((i + 0.5) * highest) / 256;
    const total = counts.reduce((sum, count, i) => sum + count * middle(i), 0);
    let [below, sumBelow, best, threshold] = [0, 0, 0, highest];
    for (let i = 0; i < 255; i += 1) {
      below += counts[i];
      sumBelow += counts[i] * middle(i);
      const above = values.length - below;
      const difference = sumBelow / Math.max(below, 1) - (total - sumBelow) / Math.max(above, 1);
      const between = below * above * difference ** 2;
      if (between > best) [best, threshold] = [between, ((i + 1) * highest) / 256];
    }
    return threshold;
  }

  // Return the components of pixels that are not 0 as arrays of places; corners connect.
  function components(mask) {
    const left = Uint8Array.from(mask);
    const found = [];
    left.forEach((_, start) => {
      if (!left[start]) return;
      const component = [start];
      left[start] = 0;
      for (const place of component) { // grows during the loop
        const [y, x] = [Math.floor(place / SIZE), place % SIZE];
        for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, SIZE - 1); v += 1) {
          for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, SIZE - 1); u += 1) {
            if (left[v * SIZE + u]) component.push(v * SIZE + u);
            left[v * SIZE + u] = 0;
          }
        }
      }
      found.push(component);
    });
    return found;
  }

  // Return first and last row and column of the places, the last ones excluded.
  function bounds(places) {
    const box = { top: SIZE, bottom: 0, left: SIZE, right: 0 };
    for (const place of places) {
      const [y, x] = [Math.floor(place / SIZE), place % SIZE];
      box.top = Math.min(box.top, y);
      box.bottom = Math.max(box.bottom, y + 1);
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x + 1);
    }
    return box;
  }

  // Return the ink without specks and what is far from a stroke, and its places; null for none.
  function findInk(pixels) {
    const ink = Float32Array.from(grayscale(pixels), (level) => (255 - level) / 255);
    if (ink.every((amount) => amount === 0)) return null;
    const threshold = otsu(ink);
    const strokes = components(ink.map((amount) => Number(amount > threshold)));
    const weigh = (places) => places.reduce((sum, place) => sum + ink[place], 0);
    const weights = strokes.map(weigh);
    const heaviest = Math.max(...weights);
    const strong = strokes.filter((_, i) => weights[i] >= SPECK * heaviest).flat();
    const levels = strokes.flat().map((place) => ink[place]).sort((a, b) => a - b);
    const at = 0.95 * (levels.length - 1);
    const low = levels[Math.floor(at)];
    const full = low + (at % 1) * (levels[Math.min(Math.floor(at) + 1, levels.length - 1)] - low);
    const box = bounds(strong);
    const edge = Math.ceil(EDGE * Math.max(box.bottom - box.top, box.right - box.left));
    const kept = new Float32Array(ink.length);
    for (const place of strong) {
      const [y, x] = [Math.floor(place / SIZE), place % SIZE];
      for (let v = Math.max(y - edge, box.top); v <= Math.min(y + edge, box.bottom - 1); v += 1) {
        for (let u = Math.max(x - edge, box.left); u <= Math.min(x + edge, box.right - 1); u += 1) {
          kept[v * SIZE + u] = Math.min(ink[v * SIZE + u] / full, 1);
        }
      }
    }
    return kept;
  }

  // Reduce or enlarge rows of numbers to `length`, as Pillow's BOX filter does.
  function resized(rows, length) {
    const scale = rows.length / length;
    const width = Math.max(scale, 1); // of the filter
    return Array.from({ length }, (_, at) => {
      const center = (at + 0.5) * scale;
      const first = Math.max(0, Math.floor(center - width / 2 + 0.5));
      const inside = rows.slice(first, Math.floor(center + width / 2 + 0.5)).filter((_, i) => {
        const place = (first + i - center + 0.5) * (1 / width); // rounded as Pillow rounds
        return place > -0.5 && place <= 0.5;
      });
      return inside[0].map((_, j) =>
        Math.fround(inside.reduce((sum, row) => sum + row[j], 0) / inside.length));
    });
  }

  const transposed = (rows) => rows[0].map((_, j) => rows.map((row) => row[j]));

  // Return the margin before the center of mass so that it lies in the middle of the field.
  function margin(masses) {
    const total = masses.reduce((sum, mass) => sum + mass, 0);
    const center = masses.reduce((sum, mass, i) => sum + mass * i, 0) / total;
    const wanted = Math.floor(FIELD / 2 - center + 0.5);
    return Math.min(Math.max(wanted, 0), FIELD - masses.length);
  }

  // Return the drawing as an MNIST image, 784 bytes with 255 for ink; null if there is no ink.
  function toMnist(pixels) {
    const ink = findInk(pixels);
    if (ink === null) return null;
    const { top, bottom, left, right } = bounds([...ink.keys()].filter((place) => ink[place] > 0));
    const rows = Array.from({ length: bottom - top }, (_, y) =>
      Array.from(ink.subarray((top + y) * SIZE + left, (top + y) * SIZE + right)));
    const scale = BOX / Math.max(bottom - top, right - left);
    const [height, width] = [bottom - top, right - left].map((side) =>
      Math.max(1, Math.round(scale * side)));
    const fitted = resized(transposed(resized(transposed(rows), width)), height);
    const strongest = Math.max(...fitted.flat());
    const sum = (values) => values.reduce((a, b) => a + b, 0);
    const [upper, before] = [fitted, transposed(fitted)].map((lines) => margin(lines.map(sum)));
    const image = new Uint8Array(FIELD * FIELD);
    fitted.forEach((row, y) => row.forEach((amount, x) => {
      image[(upper + y) * FIELD + before + x] = Math.round((255 * amount) / strongest);
    }));
    return image;
  }

  return { SIZE, enlarge, field, grayscale, stroke, toMnist };
})();
