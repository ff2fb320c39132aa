// Small drawings of distributions. Each is redrawn to the width it has; the same numbers stand in their titles.
import { decades, draw, metres, short, ticks, whenSized } from "./svg.js";

const LEFT = 40,
  RIGHT = 20,
  TOP = 10,
  BOTTOM = 34;

function frame(width, height, label, { x, y, xTicks, yTicks, xText, yText, title }) {
  const svg = draw("svg", {
    class: "plot",
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "img",
    "aria-label": label,
  });
  for (const tick of yTicks)
    svg.append(
      draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
      draw("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, yText(tick)),
    );
  for (const tick of xTicks)
    svg.append(
      draw("line", { class: "tick", x1: x(tick), x2: x(tick), y1: height - BOTTOM, y2: height - BOTTOM + 4 }),
      draw("text", { x: x(tick), y: height - BOTTOM + 16, "text-anchor": "middle" }, xText(tick)),
    );
  svg.append(
    draw("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: height - BOTTOM, y2: height - BOTTOM }),
    draw(
      "text",
      { class: "name", x: (LEFT + width - RIGHT) / 2, y: height - 3, "text-anchor": "middle" },
      title,
    ),
  );
  return svg;
}

const path = points =>
  points.map((point, index) => `${index ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}`).join("");
const between = (low, high, from, to) => value => from + ((value - low) / (high - low)) * (to - from);

// Position errors: for each size the share of the samples below it.
// Curves: [name, class, values by percentile].
export function distribution(place, percentiles, curves) {
  const known = curves.flatMap(([, , values]) => values).filter(value => value > 0);
  if (!known.length) {
    place.replaceChildren();
    return;
  }
  whenSized(place, width => {
    const height = 250,
      low = Math.min(...known) / 1.15,
      high = Math.max(...known) * 1.15;
    const log = between(Math.log10(low), Math.log10(high), LEFT, width - RIGHT),
      y = between(0, 100, height - BOTTOM, TOP);
    const x = value => log(Math.log10(value));
    const marks = decades(low / 10, high),
      more = high / low < 300 ? marks.flatMap(mark => [mark, mark * 2, mark * 5]) : marks;
    const svg = frame(width, height, "Share of the samples with an error below each size", {
      x,
      y,
      xTicks: more.filter(value => value >= low && value <= high),
      yTicks: [0, 25, 50, 75, 100],
      xText: metres,
      yText: value => `${value} %`,
      title: "error (logarithmic)",
    });
    for (const [name, kind, values] of curves) {
      const points = values
        .map((value, index) => [value, percentiles[index]])
        .filter(([value]) => value > 0)
        .map(([value, share]) => [x(value), y(share)]);
      svg.append(draw("path", { class: `curve ${kind}`, d: path(points) }, draw("title", {}, name)));
    }
    place.replaceChildren(svg);
  });
}

// Whether uncertainty is true: rows of [share that an ellipse should hold, share that it holds]; others beside them,
// dotted.
export function calibration(place, rows, others) {
  whenSized(place, width => {
    const height = 250,
      x = between(0, 1, LEFT, width - RIGHT),
      y = between(0, 1, height - BOTTOM, TOP);
    const percent = value => `${Math.round(100 * value)} %`,
      shares = [0, 0.25, 0.5, 0.75, 1];
    const svg = frame(
      width,
      height,
      "Share of the true positions inside the ellipse that should hold each share",
      {
        x,
        y,
        xTicks: shares,
        yTicks: shares,
        xText: percent,
        yText: percent,
        title: "share that the ellipse should hold",
      },
    );
    const clipped = share => Math.min(Math.max(share, 0), 1);
    const edge = [
      ...shares.map(share => [x(share), y(clipped(share + 0.03))]),
      ...shares.reverse().map(share => [x(share), y(clipped(share - 0.03))]),
    ];
    svg.append(
      draw("path", { class: "band", d: path(edge) + "Z" }, draw("title", {}, "within 3 points")),
      draw("path", {
        class: "curve bound",
        d: path([
          [x(0), y(0)],
          [x(1), y(1)],
        ]),
      }),
      ...[
        ["other", others ?? []],
        ["main", rows],
      ].map(([kind, points]) =>
        draw("path", {
          class: `curve ${kind}`,
          d: path(points.map(([stated, found]) => [x(stated), y(found)])),
        }),
      ),
    );
    for (const [stated, found] of rows.filter(([share]) => share === 0.68 || share === 0.95))
      svg.append(
        draw(
          "circle",
          { class: "dot", cx: x(stated), cy: y(found), r: 4 },
          draw("title", {}, `${percent(stated)} stated, ${(100 * found).toFixed(1)} % found`),
        ),
      );
    place.replaceChildren(svg);
  });
}

// Counts in bins between two edges; linear, logarithmic, or one bin for each whole number.
export function histogram(place, { scale, low, high, counts }, title, unit) {
  const total = counts.reduce((sum, count) => sum + count, 0) || 1;
  const filled = counts.map((count, index) => (count ? index : -1)).filter(index => index >= 0);
  const first = filled.length ? Math.max(filled[0] - (scale === "count" ? 0 : 1), 0) : 0,
    last = filled.length ? Math.min(filled.at(-1) + 1, counts.length - 1) : counts.length - 1;
  const edge =
    scale === "count"
      ? index => index
      : scale === "log"
        ? index => low * (high / low) ** (index / counts.length)
        : index => low + ((high - low) * index) / counts.length;
  const named = value => (unit === "m" ? metres(value) : `${short(value)}${unit ? " " + unit : ""}`);
  whenSized(place, width => {
    const height = 170,
      most = Math.max(...counts) / total;
    const slot = between(first, last + 1, LEFT, width - RIGHT),
      y = between(0, most || 1, height - BOTTOM, TOP);
    const start = edge(first),
      end = edge(last + 1),
      shown = value => value >= start - 1e-9 && value <= end * (1 + 1e-9);
    const x =
      scale === "log"
        ? value => slot((counts.length * Math.log(value / low)) / Math.log(high / low))
        : scale === "count"
          ? value => slot(value + 0.5)
          : value => slot((counts.length * (value - low)) / (high - low));
    const marks =
      scale === "log"
        ? decades(start / 10, end).flatMap(mark => (end / start < 1000 ? [mark, mark * 3] : [mark]))
        : scale === "count"
          ? Array.from({ length: last - first + 1 }, (_, index) => first + index)
          : ticks(start, end, width / 120);
    const svg = frame(width, height, `${title}: histogram of ${total.toLocaleString("en-US")} values`, {
      x,
      y,
      xTicks: marks.filter(shown),
      yTicks: ticks(0, most, 3),
      xText: unit === "m" ? metres : short,
      yText: value => `${+(100 * value).toPrecision(2)} %`,
      title: unit && unit !== "m" ? `${title}, ${unit}` : title,
    });
    for (let index = first; index <= last; index++) {
      const top = y(counts[index] / total),
        range = scale === "count" ? named(index) : `${named(edge(index))} to ${named(edge(index + 1))}`;
      svg.append(
        draw(
          "rect",
          {
            class: "bar",
            x: slot(index) + 0.75,
            width: Math.max(slot(index + 1) - slot(index) - 1.5, 0.5),
            y: top,
            height: Math.max(height - BOTTOM - top, 0),
          },
          draw("title", {}, `${range}: ${counts[index].toLocaleString("en-US")}`),
        ),
      );
    }
    place.replaceChildren(svg);
  });
}
