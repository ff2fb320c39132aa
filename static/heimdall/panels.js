// A grid of panels, each some metrics over each other. Which panels there are, and in what order, a person chooses; the
// server keeps it. What is drawn in them comes from who uses the grid: a job's curves, or those of several jobs.
import { Plot } from "./lines.js";
import { savePng, saveSvg } from "./savedplot.js";
import { make } from "./svg.js";

const SHOWN_AT_FIRST = 6;

// What a panel shows, by the names of its metrics: "loss,val_loss". Its validation stands beside each value of a step.
export function usualPanels(metrics) {
  const names = metrics.map(one => one.name),
    per = kind => metrics.filter(one => one.per === kind).map(one => one.name);
  const pairs = per("step").map(name => (names.includes(`val_${name}`) ? `${name},val_${name}` : name));
  const paired = new Set(pairs.flatMap(pair => pair.split(",")));
  const trained = per("epoch").filter(name => !paired.has(name) && name.startsWith("train_"));
  const both = trained.map(name =>
    names.includes(`val_${name.slice(6)}`) && !paired.has(`val_${name.slice(6)}`)
      ? `${name},val_${name.slice(6)}`
      : name,
  );
  for (const pair of both) for (const name of pair.split(",")) paired.add(name);
  return [...pairs, ...both, ...per("epoch").filter(name => !paired.has(name))];
}

const titleOf = key => key.split(",").join(" and ");

class Panel {
  constructor(grid, key) {
    this.key = key;
    this.title = titleOf(key);
    this.legend = make("div", { class: "legend", "aria-hidden": "true" });
    this.left = make("p", { class: "soft small left-out", role: "status" });
    this.chart = make("div", { class: "chart", role: "img", "aria-label": `Curve of ${this.title}` });
    this.root = make(
      "section",
      { class: "panel-of-curves", "data-panel": key },
      make("header", {}, make("h3", {}, this.title), this.legend, this.menu(grid)),
      this.chart,
      this.left,
    );
    this.plot = new Plot(this.chart, this.legend, grid.zoomed);
  }

  menu(grid) {
    const items = [
      ["Full screen", () => this.root.requestFullscreen?.()],
      ["Save as PNG", () => this.plot.plot && savePng(this.plot, this.title)],
      ["Save as SVG", () => this.plot.plot && saveSvg(this.plot, this.title)],
      ["Move first", () => grid.moveFirst(this.key)],
      ["Remove", () => grid.remove(this.key)],
    ].map(([label, act]) => {
      const button = make("button", { type: "button" }, label);
      button.addEventListener("click", act);
      return button;
    });
    const icon = document.querySelector("#panels-more").content.cloneNode(true);
    const summary = make(
      "summary",
      { class: "button square slim" },
      icon,
      make("span", { class: "sr" }, `More for ${this.title}`),
    );
    return make("details", { class: "menu" }, summary, make("div", { class: "menu-items" }, ...items));
  }

  show(lines, options, empty) {
    if (!lines.some(line => line.steps.length)) this.plot.note(empty);
    else this.plot.show(lines, options);
    const left = this.plot.lines === lines ? this.plot.numLeftOut : 0;
    this.left.textContent = left
      ? `${left} value${left === 1 ? "" : "s"} of 0 or below left out of the log scale.`
      : "";
  }
}

export class PanelGrid {
  // root: where the panels stand, with data-layout (JSON, or nothing) and data-layout-url (where it is kept).
  // adder: a form with the fields `metric` and `into`. changed() is called when other metrics are wanted.
  // inPairs: whether a value and its validation share a panel, where nobody chose otherwise.
  constructor(root, adder, zoomed, changed, inPairs = true) {
    Object.assign(this, { root, adder, zoomed, changed, inPairs, panels: [], metrics: [] });
    const kept = JSON.parse(root.dataset.layout || "null");
    this.layout = Array.isArray(kept) ? kept.filter(key => typeof key === "string") : null;
    adder.addEventListener("submit", event => {
      event.preventDefault();
      this.add(adder.elements.metric.value, adder.elements.into.value);
    });
    adder.elements.usual.addEventListener("click", () => this.set(null));
  }

  get keys() {
    return this.layout ?? this.usual.slice(0, SHOWN_AT_FIRST);
  }

  get usual() {
    return this.inPairs ? usualPanels(this.metrics) : this.metrics.map(one => one.name);
  }

  // Every metric that some panel shows.
  get wanted() {
    return [...new Set(this.keys.flatMap(key => key.split(",")))];
  }

  // What there is to choose from; true where the panels became others by it.
  offer(metrics) {
    const names = metrics.map(one => `${one.per} ${one.name}`).join();
    if (names === this.offered) return false;
    this.offered = names;
    const before = this.keys.join(" ");
    this.metrics = metrics;
    this.fill();
    return this.keys.join(" ") !== before;
  }

  fill() {
    const { metric, into } = this.adder.elements,
      chosen = metric.value;
    const choices = [...new Set([...this.usual, ...this.metrics.map(one => one.name)])];
    metric.replaceChildren(...choices.map(key => new Option(titleOf(key), key)));
    if (choices.includes(chosen)) metric.value = chosen;
    into.replaceChildren(
      new Option("a panel of its own", ""),
      ...this.keys.map(key => new Option(titleOf(key), key)),
    );
    this.adder.elements.usual.hidden = this.layout === null;
  }

  show(linesOf, options, empty) {
    const there = new Map(this.panels.map(panel => [panel.key, panel]));
    this.panels = this.keys.map(key => there.get(key) ?? new Panel(this, key));
    const roots = this.panels.map(panel => panel.root);
    if (
      roots.some((root, index) => this.root.children[index] !== root) ||
      this.root.children.length !== roots.length
    )
      this.root.replaceChildren(...roots);
    this.root.classList.toggle("single", roots.length === 1);
    for (const panel of this.panels) panel.show(linesOf(panel.key.split(",")), options, empty);
  }

  update() {
    for (const panel of this.panels) panel.plot.update();
  }

  note(text) {
    this.panels = [];
    this.root.replaceChildren(make("p", { class: "note" }, text));
  }

  add(key, into) {
    if (!key) return;
    const keys = this.keys,
      merged = [...new Set([...into.split(","), ...key.split(",")])].filter(Boolean).join(",");
    this.set(into ? keys.map(one => (one === into ? merged : one)) : [...keys, key]);
  }

  remove(key) {
    this.set(this.keys.filter(one => one !== key));
  }

  moveFirst(key) {
    this.set([key, ...this.keys.filter(one => one !== key)]);
  }

  set(layout) {
    this.layout = layout && [...new Set(layout)];
    this.fill();
    this.changed();
    this.keep();
  }

  keep() {
    const token = document.querySelector("[name=csrfmiddlewaretoken]")?.value;
    fetch(this.root.dataset.layoutUrl, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": token },
      body: JSON.stringify({ panels: this.layout }),
    }).catch(() => {
      /* it holds on this page; the next choice is kept again */
    });
  }
}
