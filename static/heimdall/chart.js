// The loss curve: train loss for each step, validation loss for each epoch, and where the job was paused or crashed.
import { count, loss } from "./format.js";

const MOST = 12000; // points held before the server is asked for a thinner curve
const STORED = "heimdall-log-scale";

export class Curve {
  constructor(place, legend, logScale) {
    Object.assign(this, { place, legend, logScale, steps: [], losses: [], values: [], marks: [], waiting: [] });
    try { logScale.checked = localStorage.getItem(STORED) === "1"; } catch { /* linear */ }
    logScale.addEventListener("change", () => {
      try { localStorage.setItem(STORED, logScale.checked ? "1" : "0"); } catch { /* this page only */ }
      this.build();
    });
    document.addEventListener("themed", () => this.build());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(place);
    this.load();
  }

  load(delay = 0) {
    clearTimeout(this.timer);
    if (delay) { this.timer = setTimeout(() => this.load(), delay); return; }
    const mine = (this.loading = (this.loading || 0) + 1);
    this.waiting = [];
    fetch(this.place.dataset.url).then((answer) => answer.json()).then((data) => {
      if (mine !== this.loading) return;
      this.loading = 0;
      Object.assign(this, { steps: data.steps, losses: data.losses, marks: data.marks, stride: data.stride });
      this.values = data.steps.map(() => null);
      const at = new Map(data.steps.map((step, index) => [step, index]));
      data.epoch_steps.forEach((step, index) => { this.values[at.get(step)] = data.val_losses[index]; });
      for (const [steps, epochs] of this.waiting) this.take(steps, epochs);
      this.build();
    }).catch(() => { if (mine === this.loading) { this.loading = 0; this.load(3000); } });
  }

  add(steps, epochs) {
    if (!steps.length && !epochs.length) return;
    if (this.loading) { this.waiting.push([steps, epochs]); return; }
    this.take(steps, epochs);
    if (this.steps.length > MOST) { this.load(); return; }
    this.draw();
  }

  take(steps, epochs) {
    for (const row of steps) {
      if (this.steps.length && row.step <= this.steps[this.steps.length - 1]) continue;
      this.steps.push(row.step);
      this.losses.push(row.loss ?? null);
      this.values.push(null);
    }
    for (const row of epochs) {
      const index = this.steps.lastIndexOf(row.step);
      if (index >= 0) this.values[index] = row.val_loss ?? null;
    }
  }

  rollBack(step) {
    if (this.loading) { this.load(); return; }
    let keep = this.steps.length;
    while (keep && this.steps[keep - 1] > step) keep--;
    for (const column of [this.steps, this.losses, this.values]) column.length = keep;
    this.draw();
  }

  draw() {
    if (!this.plot || !this.steps.length) { this.build(); return; }
    this.drawing ||= setTimeout(() => { this.drawing = 0; this.plot?.setData(this.data()); this.tell(null); }, 120);
  }

  data() {
    if (!this.logScale.checked) return [this.steps, this.losses, this.values];
    const positive = (column) => column.map((value) => (value > 0 ? value : null));
    return [this.steps, positive(this.losses), positive(this.values)];
  }

  size() { return { width: Math.max(this.place.clientWidth - 20, 120), height: Math.max(this.place.clientHeight - 14, 120) }; }

  color(name) {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    this.place.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  build() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.steps.length) {
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = "The curve begins with the first step.";
      this.place.replaceChildren(note);
      this.legend.replaceChildren();
      return;
    }
    this.place.replaceChildren();
    const soft = this.color("soft"), line = this.color("line"), train = this.color("accent"), val = this.color("warn");
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: soft, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    const label = (value) => (value == null ? "" : Math.abs(value) >= 1000 ? count(value) : String(+value.toPrecision(4)));
    const dots = this.values.filter((value) => value != null).length < 60;
    this.plot = new uPlot({
      ...this.size(),
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: this.logScale.checked ? { distr: 3 } : {} },
      axes: [
        { ...axis, size: 30, values: (_, ticks) => ticks.map(label) },
        { ...axis, size: 58, values: (_, ticks) => ticks.map(label) },
      ],
      series: [
        {},
        { stroke: train, width: 1.25, points: { show: false } },
        { stroke: val, width: 2, spanGaps: true, points: { show: dots, size: 6, fill: val, stroke: val } },
      ],
      hooks: { draw: [(plot) => this.drawMarks(plot, soft, font)], setCursor: [(plot) => this.tell(plot.cursor.idx)] },
    }, this.data(), this.place);
    this.colors = { train, val };
    this.tell(null);
  }

  drawMarks(plot, color, font) {
    const { ctx, bbox } = plot, ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = color;
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    ctx.font = font.replace("12px", `${11 * ratio}px`);
    let free = -Infinity;
    for (const mark of this.marks.slice(-60)) {
      const x = plot.valToPos(mark.step, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(mark.word).width;
      const left = x + 4 * ratio + width > bbox.left + bbox.width ? x - width - 4 * ratio : x + 4 * ratio;
      if (left > free) { ctx.fillText(mark.word, left, bbox.top + 11 * ratio); free = left + width + 4 * ratio; }
    }
    ctx.restore();
  }

  tell(index) {
    const last = index ?? this.steps.length - 1;
    if (last < 0 || !this.colors) return;
    let value = last;
    while (value > 0 && this.values[value] == null) value--;
    const entries = [["step", count(this.steps[last]), ""], ["train", loss(this.losses[last]), this.colors.train], ["validation", loss(this.values[value]), this.colors.val]];
    this.legend.replaceChildren(...entries.map(([name, text, color]) => {
      const entry = document.createElement("span"), shown = document.createElement("b");
      if (color) { const key = document.createElement("i"); key.style.setProperty("--key", color); if (name !== "train") key.className = "dots"; entry.append(key); }
      shown.textContent = text;
      entry.append(name, " ", shown);
      return entry;
    }));
  }
}
