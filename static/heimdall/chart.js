// The curves of the job's page: fetched for the range that is shown, and going on by themselves while the job trains.
import { Plot, stepAt } from "./lines.js";
import { Tools } from "./curvetools.js";

const LONGEST = 3; // times the points that were asked for: then a thinner curve is fetched
const AGAIN = 3000;

export class Curve {
  constructor(root, legend, form) {
    Object.assign(this, { root, form, lines: [], waiting: [], range: null, metric: "" });
    this.plot = new Plot(root, legend, (from, to) => this.zoom(from, to));
    this.tools = new Tools(form, () => this.show());
    form.elements.metric.addEventListener("change", () => {
      this.metric = form.elements.metric.value;
      this.load();
    });
    for (const name of ["from", "to"]) form.elements[name].addEventListener("change", () => this.typed());
    form.elements.whole.addEventListener("click", () => this.zoom(null, null));
    this.load();
  }

  get points() {
    return Math.min(Math.max(Math.round(this.root.clientWidth / 1.5), 100), 1500);
  }

  load(delay = 0) {
    clearTimeout(this.timer);
    if (delay) {
      this.timer = setTimeout(() => this.load(), delay);
      return;
    }
    const mine = (this.loading = (this.loading || 0) + 1),
      asked = new URLSearchParams({ points: this.points });
    if (this.metric) asked.set("metric", this.metric);
    if (this.range) {
      asked.set("from", this.range[0]);
      asked.set("to", this.range[1]);
    }
    this.waiting = [];
    fetch(`${this.root.dataset.url}?${asked}`)
      .then(answer => {
        if (!answer.ok) throw answer;
        return answer.json();
      })
      .then(data => {
        if (mine !== this.loading) return;
        this.loading = 0;
        this.take(data);
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

  take(data) {
    const shared = { perEpoch: data.steps_per_epoch };
    this.lines = data.series.map((series, index) => ({
      ...series,
      ...shared,
      label: series.metric,
      dots: series.per === "epoch",
      color: series.per === "epoch" ? "warn" : "accent",
      begun: series.times[0],
      marks: index ? [] : data.marks,
      checkpoints: index ? [] : data.checkpoints,
    }));
    this.data = data;
    this.offer(data.metrics);
    this.tools.allow("epoch", Boolean(data.steps_per_epoch));
    const { from, to, whole } = this.form.elements;
    [from.value, to.value] = [data.from, data.to];
    from.min = to.min = data.first_step;
    from.max = to.max = data.last_step;
    whole.hidden = !this.range;
  }

  // Each value of the steps, together with its validation; then what only epochs have.
  offer(metrics) {
    const names = metrics.map(one => one.name),
      select = this.form.elements.metric;
    const per = kind => metrics.filter(one => one.per === kind).map(one => one.name);
    const pairs = per("step").map(name => (names.includes(`val_${name}`) ? `${name},val_${name}` : name));
    const taken = new Set(pairs.flatMap(pair => pair.split(",")));
    const choices = [...pairs, ...per("epoch").filter(name => !taken.has(name))];
    if (choices.join() === [...select.options].map(option => option.value).join()) return;
    select.replaceChildren(...choices.map(choice => new Option(choice.replace(",", " and "), choice)));
    if (choices.includes(this.metric)) select.value = this.metric;
  }

  show() {
    this.root.parentElement.classList.toggle("unmeasured", !this.data?.last_step);
    if (!this.lines.some(line => line.steps.length)) {
      this.plot.note(this.data?.last_step ? "No values yet." : "The curve starts at the first step.");
      return;
    }
    this.plot.show(this.lines, this.tools.options);
  }

  zoom(from, to) {
    const line = this.lines[0],
      { x } = this.tools.options;
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
    const isNew = !this.lines.some(line => line.steps.length);
    if (isNew || (epochs.length && !this.lines.some(line => line.dots))) {
      this.load();
      return;
    }
    this.append(steps, epochs);
    if (this.lines.some(line => line.steps.length > LONGEST * this.points)) {
      this.load();
      return;
    }
    const { to } = this.form.elements;
    to.max = Math.max(Number(to.max), ...steps.map(row => row.step));
    if (document.activeElement !== to) to.value = to.max;
    this.plot.update();
  }

  append(steps, epochs) {
    for (const line of this.lines)
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
    for (const line of this.lines) {
      let keep = line.steps.length;
      while (keep && line.steps[keep - 1] > step) keep--;
      for (const column of [line.steps, line.times, line.means, line.lows, line.highs]) column.length = keep;
    }
    this.plot.update();
  }
}
