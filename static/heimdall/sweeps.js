// A sweep's combinations, drawn: each as a line over its settings, and each setting against the value. The table has
// the same numbers.
import { number } from "./format.js";
import { draw, make, whenSized } from "./svg.js";

const combinations = JSON.parse(document.querySelector("#combinations").textContent);
const known = combinations.filter(one => one.value != null);
const names = [...new Set(combinations.flatMap(one => Object.keys(one.params)))];
const HEIGHT = 260,
  TOP = 26,
  BOTTOM = 22,
  SIDE = 60;

// A scale for one column: numbers evenly, or by powers of ten where they span many; everything else by its order.
function scaleOf(values) {
  const there = values.filter(value => value !== undefined && value !== null);
  if (there.every(value => typeof value === "number")) {
    const low = Math.min(...there),
      high = Math.max(...there),
      isLog = low > 0 && high / low > 50;
    const at = isLog ? Math.log10 : value => value;
    const span = at(high) - at(low) || 1;
    return { place: value => (at(value) - at(low)) / span, low: number(low), high: number(high) };
  }
  const order = [...new Set(there.map(String))].sort();
  const span = Math.max(order.length - 1, 1);
  return {
    place: value => order.indexOf(String(value)) / span,
    low: order[0] ?? "",
    high: order.at(-1) ?? "",
  };
}

function coordinates(root, width) {
  const columns = [...names, "value"],
    valuesOf = name => known.map(one => (name === "value" ? one.value : one.params[name]));
  const scales = columns.map(name => scaleOf(valuesOf(name)));
  const x = index => SIDE + (index * (width - 2 * SIDE)) / Math.max(columns.length - 1, 1),
    y = share => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT });
  columns.forEach((name, index) => {
    svg.append(
      draw("line", { class: "coordinate", x1: x(index), x2: x(index), y1: TOP, y2: HEIGHT - BOTTOM }),
      draw("text", { x: x(index), y: 12, "text-anchor": "middle" }, name),
      draw("text", { x: x(index) + 4, y: TOP + 4 }, scales[index].high),
      draw("text", { x: x(index) + 4, y: HEIGHT - BOTTOM + 12 }, scales[index].low),
    );
  });
  known.forEach((one, rank) => {
    let path = "";
    columns.forEach((name, index) => {
      const value = name === "value" ? one.value : one.params[name];
      if (value === undefined) return;
      path += `${path ? "L" : "M"}${x(index).toFixed(1)} ${y(scales[index].place(value)).toFixed(1)}`;
    });
    const line = draw("path", { class: rank ? "combination" : "combination best", d: path });
    const words = Object.entries(one.params).map(([name, value]) => `${name} ${value}`);
    line.append(draw("title", {}, `${words.join(", ")}: ${number(one.value)} at epoch ${one.at}`));
    svg.append(line);
  });
  root.replaceChildren(svg);
}

function scatter(name) {
  const width = 230,
    height = 170,
    left = 62,
    bottom = 30;
  const mine = known.filter(one => one.params[name] !== undefined),
    across = scaleOf(mine.map(one => one.params[name])),
    up = scaleOf(mine.map(one => one.value));
  const svg = draw("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": `${name} against the value`,
  });
  svg.append(
    draw("line", { class: "coordinate", x1: left, x2: width, y1: height - bottom, y2: height - bottom }),
    draw("line", { class: "coordinate", x1: left, x2: left, y1: 8, y2: height - bottom }),
    draw("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, name),
    draw("text", { x: left, y: height - bottom + 13 }, across.low),
    draw("text", { x: width, y: height - bottom + 13, "text-anchor": "end" }, across.high),
    draw("text", { x: left - 4, y: 16, "text-anchor": "end" }, up.high),
    draw("text", { x: left - 4, y: height - bottom, "text-anchor": "end" }, up.low),
  );
  for (const one of mine)
    svg.append(
      draw("circle", {
        class: "point",
        r: 3.5,
        cx: left + 6 + across.place(one.params[name]) * (width - left - 14),
        cy: height - bottom - 6 - up.place(one.value) * (height - bottom - 20),
      }),
    );
  return svg;
}

async function importances(root) {
  root.replaceChildren(make("p", { class: "soft" }, "Worked out from what is known by now ..."));
  const answer = await fetch(root.dataset.url);
  if (!answer.ok) {
    root.replaceChildren(make("p", { class: "soft" }, "This could not be worked out now."));
    return;
  }
  const found = Object.entries((await answer.json()).importances).sort((one, other) => other[1] - one[1]);
  if (!found.length)
    root.replaceChildren(make("p", { class: "soft" }, "Too little is known yet: at least four results."));
  else
    root.replaceChildren(
      ...found.map(([name, share]) =>
        make(
          "div",
          { class: "importance" },
          make("span", {}, name),
          make("b", {}, `${Math.round(100 * share)} %`),
          make("progress", { max: 1, value: share, "aria-label": name }),
        ),
      ),
    );
}

const place = document.querySelector("#coordinates");
if (known.length) {
  whenSized(place, width => coordinates(place, width));
  document.querySelector("#scatters").replaceChildren(...names.map(scatter));
} else place.querySelector(".note").textContent = "No combination has a value yet.";
importances(document.querySelector("#importances"));
