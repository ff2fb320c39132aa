// A panel as a picture: PNG as it is shown, SVG drawn from the same points.
import { decades, draw, ticks } from "./svg.js";

const LEFT = 64,
  RIGHT = 16,
  TOP = 34,
  BOTTOM = 36;

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const fileName = (title, kind) => `${title.replace(/[^\w.-]+/g, "-").slice(0, 80) || "curve"}.${kind}`;

// The canvas is transparent: a picture has a ground, and the title that stands above it on the page.
export function savePng(shown, title) {
  const source = shown.plot.root.querySelector("canvas"),
    head = 28 * devicePixelRatio;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [source.width, source.height + head];
  const context = canvas.getContext("2d"),
    body = getComputedStyle(shown.root);
  context.fillStyle = getComputedStyle(shown.root.closest(".card") ?? document.body).backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = body.color;
  context.font = `600 ${13 * devicePixelRatio}px ${body.fontFamily}`;
  context.fillText(title, 12 * devicePixelRatio, 19 * devicePixelRatio);
  context.drawImage(source, 0, head);
  canvas.toBlob(blob => save(blob, fileName(title, "png")), "image/png");
}

// Line by line, as uPlot has it: the first column are the places on the axis.
function pathOf(places, values, x, y) {
  let path = "",
    isOpen = false;
  values.forEach((value, index) => {
    if (value == null) {
      isOpen = false;
      return;
    }
    path += `${isOpen ? "L" : "M"}${x(places[index]).toFixed(1)} ${y(value).toFixed(1)}`;
    isOpen = true;
  });
  return path;
}

export function svgOf(shown, title) {
  const { plot, lines, colors, options } = shown,
    { scales, data } = plot;
  const width = plot.over.clientWidth,
    height = plot.over.clientHeight;
  const x = value => LEFT + plot.valToPos(value, "x"),
    y = value => TOP + plot.valToPos(value, "y");
  const svg = draw("svg", {
    xmlns: "http://www.w3.org/2000/svg",
    viewBox: `0 0 ${LEFT + width + RIGHT} ${TOP + height + BOTTOM}`,
    "font-family": "sans-serif",
    "font-size": 12,
    fill: "none",
  });
  svg.append(draw("rect", { width: "100%", height: "100%", fill: "#fff" }));
  svg.append(draw("text", { x: LEFT, y: 20, fill: "#16191b", "font-weight": 600 }, title));
  const grid = options.log ? decades(scales.y.min, scales.y.max) : ticks(scales.y.min, scales.y.max);
  for (const tick of grid)
    svg.append(
      draw("line", { x1: LEFT, x2: LEFT + width, y1: y(tick), y2: y(tick), stroke: "#dfdfd9" }),
      draw(
        "text",
        { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end", fill: "#565c60" },
        String(+tick.toPrecision(4)),
      ),
    );
  for (const tick of ticks(scales.x.min, scales.x.max))
    svg.append(
      draw(
        "text",
        { x: x(tick), y: TOP + height + 18, "text-anchor": "middle", fill: "#565c60" },
        options.x === "time" ? new Date(1000 * tick).toLocaleTimeString() : String(+tick.toPrecision(6)),
      ),
    );
  lines.forEach((line, index) => {
    const values = data[4 * index + (options.smoothing && !line.dots ? 2 : 1)];
    if (!values) return;
    const path = draw("path", {
      d: pathOf(data[0], values, x, y),
      stroke: colors[index],
      "stroke-width": 1.5,
    });
    path.append(draw("title", {}, line.label));
    svg.append(path);
    svg.append(
      draw(
        "text",
        { x: LEFT + width - 6, y: TOP + 14 + 15 * index, "text-anchor": "end", fill: colors[index] },
        line.label,
      ),
    );
  });
  return new XMLSerializer().serializeToString(svg);
}

export function saveSvg(shown, title) {
  save(new Blob([svgOf(shown, title)], { type: "image/svg+xml" }), fileName(title, "svg"));
}
