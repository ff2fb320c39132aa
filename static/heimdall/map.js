// A map without tiles: a plane in kilometres round a centre, its graticule, an outline where there is one, and what
// the caller draws. Zoom by buttons, keys, a double click or the wheel; drag to move.
import { COASTS, TOWNS, WATERS } from "./outline.js";
import { draw, make, metres, nice, whenSized } from "./svg.js";

const KM_NORTH = 110.574,
  KM_EAST = 111.32;
const CLOSEST = 2000; // pixels a kilometre

export class PlaneMap {
  // centre: latitude and longitude; box: [west, south, east, north] in km; marks(map): elements, from below to above.
  constructor(place, { centre, label }) {
    Object.assign(this, { place, centre, marks: () => [], box: [-100, -100, 100, 100], x: 0, y: 0, k: 0 });
    this.east = KM_EAST * Math.cos((centre[0] * Math.PI) / 180);
    this.svg = draw("svg", { class: "plane", role: "img", "aria-label": label, tabindex: "0" });
    const button = (text, name, act) => {
      const made = make(
        "button",
        { type: "button", class: "button slim square", title: name, "aria-label": name },
        text,
      );
      made.addEventListener("click", act);
      return made;
    };
    this.buttons = make(
      "div",
      { class: "zoom", role: "group", "aria-label": "Zoom" },
      button("+", "Zoom in", () => this.zoom(2)),
      button("\u2212", "Zoom out", () => this.zoom(0.5)),
      button("\u25a1", "Show everything", () => this.fit()),
    );
    place.replaceChildren(this.svg, this.buttons);
    this.listen();
    whenSized(place, width => {
      const height = Math.round(Math.min(Math.max(width * 0.68, 300), 560)),
        first = !this.width;
      Object.assign(this, { width, height });
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.setAttribute("height", height);
      if (first || this.whole) this.fit();
      else this.redraw();
    });
  }

  show(box, marks) {
    const moved = String(box) !== String(this.box);
    Object.assign(this, { box, marks });
    if (this.width && (moved || !this.k)) this.fit();
    else this.redraw();
  }

  fit() {
    if (!this.width) return;
    const [west, south, east, north] = this.box;
    this.k = Math.min(this.width / (east - west), this.height / (north - south)) * 0.94;
    Object.assign(this, { x: (west + east) / 2, y: (south + north) / 2, smallest: this.k / 2, whole: true });
    this.redraw();
  }

  zoom(factor, at = [this.width / 2, this.height / 2]) {
    const k = Math.min(Math.max(this.k * factor, this.smallest), CLOSEST);
    const [east, north] = this.back(at);
    Object.assign(this, { k, whole: false });
    this.x = east - (at[0] - this.width / 2) / k;
    this.y = north + (at[1] - this.height / 2) / k;
    this.redraw();
  }

  move(right, down) {
    this.x += right / this.k;
    this.y -= down / this.k;
    this.whole = false;
    this.redraw();
  }

  // Kilometres to pixels, and back.
  at(east, north) {
    return [this.width / 2 + (east - this.x) * this.k, this.height / 2 - (north - this.y) * this.k];
  }
  back([right, down]) {
    return [this.x + (right - this.width / 2) / this.k, this.y - (down - this.height / 2) / this.k];
  }
  atDegrees([longitude, latitude]) {
    return this.at((longitude - this.centre[1]) * this.east, (latitude - this.centre[0]) * KM_NORTH);
  }
  sees([right, down], margin = 60) {
    return right > -margin && down > -margin && right < this.width + margin && down < this.height + margin;
  }

  redraw() {
    this.svg.classList.toggle("close", !this.whole);
    this.drawing ||= requestAnimationFrame(() => {
      this.drawing = 0;
      if (!this.width) return;
      this.taken = [[this.width - 46, 0, this.width, 118]]; // the buttons
      this.names = new Set();
      const marks = this.marks(this); // their names come first: a town's name gives way
      this.svg.replaceChildren(this.ground(), ...marks, this.scale());
    });
  }

  ground() {
    const group = draw("g", { class: "ground" });
    this.graticule(group);
    const line = (points, name) => {
      const shown = points.map(point => this.atDegrees(point));
      if (shown.some(point => this.sees(point, this.width)))
        group.append(
          draw("polyline", {
            class: name,
            points: shown.map(point => point.map(value => value.toFixed(1)).join(",")).join(" "),
          }),
        );
    };
    for (const coast of COASTS) line(coast, "coast");
    for (const water of WATERS) line(water, "water");
    for (const [name, ...place] of TOWNS) {
      const [right, down] = this.atDegrees(place);
      if (!this.sees([right, down], 0) || this.names.has(name)) continue;
      const text = this.named(name, right, down, "town", false);
      if (text) group.append(draw("circle", { class: "town", cx: right, cy: down, r: 1.6 }), text);
    }
    return group;
  }

  graticule(group) {
    const [west, north] = this.back([0, 0]),
      [east, south] = this.back([this.width, this.height]);
    const step = Math.max(nice((east - west) / this.east / 3), 1e-5),
      digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const written = (value, plus, minus) =>
      `${Math.abs(value).toFixed(digits)}\u00b0 ${value >= 0 ? plus : minus}`;
    const from = low => Math.ceil(low / step) * step;
    for (
      let longitude = from(this.centre[1] + west / this.east);
      longitude <= this.centre[1] + east / this.east;
      longitude += step
    ) {
      const [right] = this.atDegrees([longitude, this.centre[0]]);
      group.append(
        draw("line", { class: "grid", x1: right, x2: right, y1: 0, y2: this.height }),
        draw("text", { class: "grid", x: right + 3, y: 12 }, written(longitude, "E", "W")),
      );
    }
    for (
      let latitude = from(this.centre[0] + south / KM_NORTH);
      latitude <= this.centre[0] + north / KM_NORTH;
      latitude += step
    ) {
      const [, down] = this.atDegrees([this.centre[1], latitude]);
      group.append(
        draw("line", { class: "grid", x1: 0, x2: this.width, y1: down, y2: down }),
        draw("text", { class: "grid", x: 4, y: down - 3 }, written(latitude, "N", "S")),
      );
    }
  }

  scale() {
    const km = nice(this.width / 4 / this.k),
      length = km * this.k,
      down = this.height - 12;
    return draw(
      "g",
      { class: "scale" },
      draw("rect", { x: 6, y: down - 20, width: length + 16, height: 28, rx: 4 }),
      draw("path", { d: `M14 ${down - 5} v5 h${length} v-5` }),
      draw("text", { x: 14 + length / 2, y: down - 7, "text-anchor": "middle" }, metres(km * 1000)),
    );
  }

  receivers(rows) {
    const group = draw("g", { class: "receivers" });
    for (const [name, ...place] of rows) {
      const [right, down] = this.at(...place);
      this.names.add(name);
      this.taken.push([right - 7, down - 8, right + 7, down + 4]);
      group.append(draw("path", { d: `M${right} ${down - 8} l7 12 h-14 z` }, draw("title", {}, name)));
    }
    for (const [name, ...place] of rows) group.append(this.named(name, ...this.at(...place), "", true));
    return group;
  }

  // A name beside its place where no other one stands; null where there is no room and it may be left out.
  named(name, right, down, kind, needed) {
    const long = name.length * (needed ? 6.6 : 5.9);
    const tries = [
      [9, -5],
      [9, 13],
      [-9 - long, -5],
      [-9 - long, 13],
      [-long / 2, -13],
      [-long / 2, 20],
    ];
    for (const [across, below] of tries) {
      const box = [right + across, down + below - 10, right + across + long, down + below + 3];
      const free =
        box[0] > 0 &&
        box[2] < this.width &&
        this.taken.every(
          other => box[0] > other[2] || box[2] < other[0] || box[1] > other[3] || box[3] < other[1],
        );
      if (!free) continue;
      this.taken.push(box);
      return draw("text", { class: kind, x: box[0], y: down + below }, name);
    }
    return needed ? draw("text", { class: kind, x: right + 9, y: down - 5 }, name) : null;
  }

  listen() {
    const svg = this.svg,
      pointers = new Map();
    const where = event => {
      const box = svg.getBoundingClientRect();
      return [
        ((event.clientX - box.left) * this.width) / box.width,
        ((event.clientY - box.top) * this.height) / box.height,
      ];
    };
    svg.addEventListener("pointerdown", event => {
      if (event.pointerType === "touch" && this.whole && !pointers.size) {
        pointers.set(event.pointerId, where(event));
        return;
      }
      pointers.set(event.pointerId, where(event));
      this.dragged = false;
    });
    svg.addEventListener("pointermove", event => {
      if (!pointers.has(event.pointerId)) return;
      const before = pointers.get(event.pointerId),
        now = where(event);
      const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      if (
        !others.length &&
        (event.pointerType === "touch"
          ? this.whole
          : !this.dragged && Math.hypot(now[0] - before[0], now[1] - before[1]) < 3)
      )
        return;
      pointers.set(event.pointerId, now);
      if (others.length)
        this.zoom(
          Math.hypot(now[0] - others[0][0], now[1] - others[0][1]) /
            Math.max(Math.hypot(before[0] - others[0][0], before[1] - others[0][1]), 1),
          others[0],
        );
      else {
        this.dragged = true;
        svg.setPointerCapture(event.pointerId);
        this.move(before[0] - now[0], before[1] - now[1]);
      }
    });
    for (const name of ["pointerup", "pointercancel", "pointerleave"])
      svg.addEventListener(name, event => pointers.delete(event.pointerId));
    svg.addEventListener("dblclick", event => {
      event.preventDefault();
      this.zoom(event.shiftKey ? 0.5 : 2, where(event));
    });
    // The wheel scrolls the page unless the map was chosen, or Ctrl is held.
    svg.addEventListener(
      "wheel",
      event => {
        if (!event.ctrlKey && document.activeElement !== svg) return;
        event.preventDefault();
        this.zoom(2 ** (-event.deltaY / 240), where(event));
      },
      { passive: false },
    );
    const steps = { ArrowLeft: [-60, 0], ArrowRight: [60, 0], ArrowUp: [0, -60], ArrowDown: [0, 60] };
    svg.addEventListener("keydown", event => {
      if (steps[event.key]) {
        event.preventDefault();
        this.move(...steps[event.key]);
      }
      if (event.key === "+" || event.key === "=") this.zoom(2);
      if (event.key === "-") this.zoom(0.5);
      if (event.key === "0") this.fit();
    });
  }
}

// The box round places, with a margin.
export function around(places, margin = 0.06) {
  const easts = places.map(place => place[0]),
    norths = places.map(place => place[1]);
  const [west, east, south, north] = [
    Math.min(...easts),
    Math.max(...easts),
    Math.min(...norths),
    Math.max(...norths),
  ];
  const more = Math.max(east - west, north - south, 1) * margin;
  return [west - more, south - more, east + more, north + more];
}
