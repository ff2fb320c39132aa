// The curves of the job's page: fetched for the range that is shown, and going on by themselves while the job trains.
import { lead, place, stepAt } from "./linedata.js";
import { PanelGrid } from "./panels.js";
import { Tools } from "./curvetools.js";

const LONGEST = 3; // times the points that were asked for: then a thinner curve is fetched
const AGAIN = 3000;
const AT_ONCE = 8; // metrics that one answer has

export class Curve {
  constructor(root, form, adder) {
    Object.assign(this, { root, form, lines: new Map(), waiting: [], range: null });
    this.grid = new PanelGrid(
      root,
      adder,
      (from, to) => this.zoom(from, to),
      () => this.load(),
    );
    this.tools = new Tools(form, () => this.changed());
    for (const name of ["from", "to"]) form.elements[name].addEventListener("change", () => this.typed());
    form.elements.whole.addEventListener("click", () => this.zoom(null, null));
    this.load();
  }

  get points() {
    return Math.min(Math.max(Math.round(this.root.clientWidth / 2), 100), 1500);
  }

  load(delay = 0) {
    clearTimeout(this.timer);
    if (delay) {
      this.timer = setTimeout(() => this.load(), delay);
      return;
    }
    const mine = (this.loading = (this.loading || 0) + 1);
    this.waiting = [];
    this.fetched()
      .then(answers => {
        if (mine !== this.loading) return;
        this.loading = 0;
        this.take(answers);
        for (const [steps, epochs] of this.waiting) this.append(steps, epochs);
        this.show();
      })
      .catch(() => {
        if (mine === this.loading) {
          this.loading = 0;
          this.load(AGAIN);
        }
      });
  }

  // A few metrics an answer, all answers side by side. The first one alone says what there is to choose from.
  async fetched() {
    if (!this.grid.metrics.length) this.grid.offer((await this.ask([])).metrics);
    const wanted = this.grid.wanted,
      parts = [];
    for (let begin = 0; begin < Math.max(wanted.length, 1); begin += AT_ONCE)
      parts.push(this.ask(wanted.slice(begin, begin + AT_ONCE)));
    return Promise.all(parts);
  }

  async ask(metrics) {
    const asked = new URLSearchParams({ points: this.points });
    if (metrics.length) asked.set("metric", metrics.join(","));
    if (this.range) {
      const before = lead({ span: this.span }, this.tools.options.smoothing);
      asked.set("from", Math.max(this.range[0] - before, 1));
      asked.set("to", this.range[1]);
    }
    const answer = await fetch(`${this.root.dataset.url}?${asked}`);
    if (!answer.ok) throw answer;
    return answer.json();
  }

  take(answers) {
    const [data] = answers;
    this.data = data;
    this.span = data.last_step - data.first_step + 1;
    this.lines = new Map(
      answers
        .flatMap(answer => answer.series)
        .map(series => [
          series.metric,
          {
            ...series,
            perEpoch: data.steps_per_epoch,
            span: this.span,
            label: series.metric,
            dots: series.per === "epoch",
            begun: series.times[0],
          },
        ]),
    );
    if (this.grid.offer(data.metrics)) this.load();
    this.tools.allow("epoch", Boolean(data.steps_per_epoch));
    const { from, to, whole } = this.form.elements;
    [from.value, to.value] = this.range ?? [data.first_step, data.last_step];
    from.min = to.min = data.first_step;
    from.max = to.max = data.last_step;
    whole.hidden = !this.range;
  }

  // The lines of one panel: the first carries the marks, so that each stands there once.
  linesOf(metrics) {
    return metrics.map((name, index) => {
      const line = this.lines.get(name) ?? {
        label: name,
        steps: [],
        times: [],
        means: [],
        lows: [],
        highs: [],
      };
      line.color = index
        ? line.dots && index === 1
          ? "warn"
          : `curve-${(index % 8) + 1}`
        : line.dots
          ? "warn"
          : "accent";
      line.marks = index ? [] : [...(this.data?.marks ?? []), ...this.ownMarks()];
      line.checkpoints = index ? [] : (this.data?.checkpoints ?? []);
      return line;
    });
  }

  // The best validation, and where other jobs were forked off.
  ownMarks() {
    const best = this.data.best_step
      ? [{ step: this.data.best_step, word: "best", at: null, resumed_at: null }]
      : [];
    const forks = this.data.forks.map(fork => ({
      step: fork.step,
      word: `fork #${fork.job}`,
      at: null,
      resumed_at: null,
    }));
    return [...best, ...forks];
  }

  show() {
    this.root.closest("section").classList.toggle("unmeasured", !this.data?.last_step);
    const empty = this.data?.last_step ? "No values yet." : "The curve starts at the first step.";
    if (!this.grid.keys.length) {
      this.grid.note(this.grid.metrics.length ? "No panel is chosen. Add one above." : empty);
      return;
    }
    this.grid.show(metrics => this.linesOf(metrics), { ...this.tools.options, window: this.window() }, empty);
  }

  // With a smoothing that began before the range, the axis is held to the range.
  window() {
    const { x } = this.tools.options,
      line = this.lines.values().next().value;
    if (!this.range || !line?.steps.length) return null;
    const [from, to] = this.range.map(step => place(line, step, x));
    return from == null || to == null || from >= to ? null : [from, to];
  }

  changed() {
    if (this.range && this.tools.options.smoothing !== this.smoothed) this.load();
    this.smoothed = this.tools.options.smoothing;
    this.show();
  }

  zoom(from, to) {
    const line = [...this.lines.values()].find(one => one.steps.length),
      { x } = this.tools.options;
    if (from != null && !line) return;
    this.range = from == null ? null : [Math.max(stepAt(line, from, x), 1), Math.max(stepAt(line, to, x), 1)];
    this.load();
  }

  typed() {
    const { from, to } = this.form.elements,
      first = Number(from.value),
      last = Number(to.value);
    const isRange = Number.isInteger(first) && Number.isInteger(last) && 0 < first && first < last;
    to.setCustomValidity(isRange ? "" : "Enter two steps, the earlier one first.");
    if (isRange) {
      this.range = [first, last];
      this.load();
    } else to.reportValidity();
  }

  add(steps, epochs) {
    if ((!steps.length && !epochs.length) || this.range) return;
    if (this.loading) {
      this.waiting.push([steps, epochs]);
      return;
    }
    const lines = [...this.lines.values()];
    if (!lines.some(line => line.steps.length) || (epochs.length && !lines.some(line => line.dots))) {
      this.load();
      return;
    }
    this.append(steps, epochs);
    if (lines.some(line => line.steps.length > LONGEST * this.points)) {
      this.load();
      return;
    }
    const { to } = this.form.elements;
    to.max = Math.max(Number(to.max), ...steps.map(row => row.step));
    if (document.activeElement !== to) to.value = to.max;
    this.grid.update();
  }

  append(steps, epochs) {
    for (const line of this.lines.values())
      for (const row of line.dots ? epochs : steps) {
        if (line.steps.length && row.step <= line.steps[line.steps.length - 1]) continue;
        const value = row[line.metric] ?? null;
        line.steps.push(row.step);
        line.times.push(Date.now() / 1000);
        for (const column of [line.means, line.lows, line.highs]) column.push(value);
      }
  }

  rollBack(step) {
    if (this.loading || this.range) {
      this.load();
      return;
    }
    for (const line of this.lines.values()) {
      let keep = line.steps.length;
      while (keep && line.steps[keep - 1] > step) keep--;
      for (const column of [line.steps, line.times, line.means, line.lows, line.highs]) column.length = keep;
    }
    this.grid.update();
  }
}
