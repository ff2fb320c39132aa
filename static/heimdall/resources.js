// What a training uses of its machine, over time: a small plot for each value that was measured.
import { Plot } from "./lines.js";
import { make } from "./svg.js";

const EVERY = 10000;
const SHOWN = {
  cpu_percent: ["CPU, % of a core", 1],
  memory: ["Memory, MB", 1e-6],
  gpu_percent: ["GPU, %", 1],
  gpu_memory: ["GPU memory, MB", 1e-6],
  read_rate: ["Read from disk, MB/s", 1e-6],
  write_rate: ["Written to disk, MB/s", 1e-6],
};
const root = document.querySelector("#resources");
const plots = new Map();

function plotOf(name, title) {
  if (!plots.has(name)) {
    const legend = make("div", { class: "legend", "aria-hidden": "true" }),
      chart = make("div", { class: "chart", role: "img", "aria-label": title });
    const panel = make(
      "section",
      { class: "panel-of-curves" },
      make("header", {}, make("h3", {}, title), legend),
      chart,
    );
    if (!plots.size) root.replaceChildren();
    root.append(panel);
    plots.set(name, new Plot(chart, legend, () => {}));
  }
  return plots.get(name);
}

async function load() {
  const answer = await fetch(root.dataset.url);
  if (!answer.ok) return;
  const { times, attempts, values } = await answer.json();
  for (const [name, [title, unit]] of Object.entries(SHOWN)) {
    if (!values[name]) continue;
    const means = values[name].map(value => (value == null ? null : value * unit));
    // A gap between two attempts is a gap: nothing ran there.
    attempts.forEach((attempt, index) => {
      if (index && attempt !== attempts[index - 1]) means[index] = null;
    });
    const line = {
      label: title.split(",")[0],
      color: "accent",
      steps: times.map((_, index) => index + 1),
      times,
      means,
    };
    plotOf(name, title).show([{ ...line, lows: means, highs: means, begun: times[0] }], {
      x: "time",
      log: false,
      smoothing: 0,
      all: true,
      window: null,
    });
  }
}

load();
if ("live" in root.dataset) setInterval(() => document.hidden || load(), EVERY);
