// Histograms with a common axis from -end to end; 0 is in the middle of a bin. Values beyond the
// axis count as the first or the last bin.
const histogram = (() => {
  const BINS = { values: 41, percentiles: 61 }; // odd: 0 is in the middle of one
  const SVG = "http://www.w3.org/2000/svg";

  // Return the share of the values in each bin.
  function ofValues(values, end) {
    const shares = new Float64Array(BINS.values);
    for (const value of values) {
      const bin = Math.floor(((value + end) / (2 * end)) * shares.length);
      shares[Math.min(Math.max(bin, 0), shares.length - 1)] += 1 / values.length;
    }
    return shares;
  }

  // Return the share in each bin, given the values of percentiles: between them it grows linearly.
  function ofPercentiles(levels, values, end) {
    function below(x) {
      if (x >= values.at(-1)) return 1;
      const above = values.findIndex((value) => value > x);
      if (above === 0) return 0;
      const [low, high] = [values[above - 1], values[above]];
      const part = levels[above] - levels[above - 1];
      return (levels[above - 1] + (part * (x - low)) / (high - low)) / 100;
    }
    const edges = Array.from({ length: BINS.percentiles - 1 }, (_, i) =>
      end * ((2 * (i + 1)) / BINS.percentiles - 1));
    const sums = [0, ...edges.map(below), 1];
    return sums.slice(1).map((sum, i) => sum - sums[i]);
  }

  // Return the outline of bars relative to the highest one, in a square of 100 by 100.
  function outline(shares, highest) {
    const tops = Array.from(shares, (share, i) => {
      const [left, right] = [i, i + 1].map((edge) => ((100 * edge) / shares.length).toFixed(2));
      const y = (100 * (1 - share / highest)).toFixed(2);
      return `L${left} ${y}L${right} ${y}`;
    });
    return `M0 100${tops.join("")}L100 100Z`;
  }

  function draw(name, attributes) {
    const created = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
    return created;
  }

  // Return a chart with `show`, which takes the shares of each bin, the end of the axis, a text for
  // readers who cannot see it, and perhaps the shares of other values to compare with.
  function chart(tone) {
    const filled = draw("path", { class: "filled" });
    const outlined = draw("path", { class: "outlined" });
    const zero = draw("line", { class: "zero", x1: 50, x2: 50, y1: 0, y2: 100 });
    const svg = draw("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img" });
    svg.append(zero, filled, outlined);
    const ends = ["", "0", ""].map((text) => elements.make("span", { text }));
    const axis = elements.make("div", { class: "axis", "aria-hidden": "true" }, ...ends);
    const root = elements.make("div", { class: `histogram ${tone}` }, svg, axis);
    function show(shares, end, text, compared = null) {
      const highest = Math.max(0, ...shares, ...(compared ?? [])) || 1;
      filled.setAttribute("d", outline(shares, highest));
      outlined.setAttribute("d", compared ? outline(compared, highest) : "");
      [ends[0].textContent, ends[2].textContent] = [-end, end].map((x) => elements.number(x, 2));
      svg.setAttribute("aria-label", text);
    }
    return { root, show };
  }

  return { chart, ofPercentiles, ofValues };
})();
