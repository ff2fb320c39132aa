// Lines over steps, epochs or time, drawn by uPlot: means, the band between lowest and highest, marks and checkpoints.
import { count, duration, loss } from "./format.js";
import { countNotPositive, isJoined, place, smooth, smoothingUnit, usualRange } from "./linedata.js";

const MARGIN = 0.06; // of the range of values, above and below it
// Between two ticks of steps.
const WHOLE = [...Array(12).keys()].flatMap(power => [1, 2, 5].map(digit => digit * 10 ** power));

// A colour as canvas wants it: of a name in the style sheets, or as it is given.
export function cssColor(place, name) {
  const probe = document.createElement("i");
  probe.style.color = name.includes("(") ? name : `var(--${name})`;
  place.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

export class Plot {
  // zoomed(from, to): two places on the axis, or null, null for everything.
  constructor(root, legend, zoomed) {
    Object.assign(this, {
      root,
      legend,
      zoomed,
      lines: [],
      options: { x: "step", log: false, smoothing: 0, all: false, window: null },
    });
    const again = () => this.lines.length && this.show(this.lines, this.options);
    document.addEventListener("themed", again);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(root);
  }

  size() {
    return {
      width: Math.max(this.root.clientWidth - 20, 120),
      height: Math.max(this.root.clientHeight - 14, 120),
    };
  }

  note(text) {
    this.plot?.destroy();
    this.plot = null;
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = text;
    this.root.replaceChildren(note);
    this.legend.replaceChildren();
  }

  show(lines, options) {
    Object.assign(this, { lines, options });
    this.plot?.destroy();
    this.root.replaceChildren();
    const soft = cssColor(this.root, "soft"),
      grid = cssColor(this.root, "line");
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const axis = {
      stroke: soft,
      font,
      grid: { stroke: grid, width: 1 },
      ticks: { stroke: grid, width: 1, size: 4 },
    };
    const number = value =>
      value == null ? "" : Math.abs(value) >= 1000 ? count(value) : String(+value.toPrecision(4));
    const values = options.x === "elapsed" ? value => duration(value) : number;
    this.colors = lines.map(line => cssColor(this.root, line.color));
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        cursor: {
          y: false,
          points: { show: false },
          sync: { key: "curves", scales: ["x", null] },
          drag: { x: true, y: false, setScale: false },
          bind: {
            dblclick: () => () => {
              this.zoomed(null, null);
            },
          },
        },
        scales: {
          x: { time: options.x === "time", ...(options.window ? { range: () => options.window } : {}) },
          y: {
            ...(options.log ? { distr: 3 } : {}),
            ...(options.all ? {} : { range: this.usual.bind(this) }),
          },
        },
        axes: [
          {
            ...axis,
            ...(options.x === "step" ? { incrs: WHOLE } : {}),
            size: options.x === "time" ? 46 : 32,
            ...(options.x === "time"
              ? {}
              : { values: (_, ticks) => ticks.map(tick => (tick == null ? "" : values(tick))) }),
          },
          { ...axis, size: 60, values: (_, ticks) => ticks.map(number) },
        ],
        series: [{}, ...lines.flatMap((line, index) => this.series(line, this.colors[index]))],
        bands: lines.flatMap((line, index) =>
          this.banded(line)
            ? [{ series: [4 * index + 4, 4 * index + 3], fill: fade(this.colors[index], 0.2) }]
            : [],
        ),
        hooks: {
          draw: [plot => this.drawMarks(plot, soft, font)],
          setCursor: [plot => this.tell(plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : null)],
          setSelect: [plot => this.select(plot)],
        },
      },
      this.data(),
      this.root,
    );
    this.tell(null);
  }

  // Of each line: the mean, as it is and smoothed, then the edges of its band.
  series(line, color) {
    const dots = line.dots && line.steps.length < 60,
      smoothing = this.options.smoothing > 0 && !line.dots;
    const common = { spanGaps: isJoined(line), dash: line.dash };
    const edge = { stroke: "transparent", width: 0, points: { show: false } };
    return [
      {
        ...common,
        stroke: smoothing ? fade(color, 0.3) : color,
        width: line.dots ? 2 : 1.25,
        points: { show: dots, size: 6, fill: color, stroke: color },
      },
      { ...common, show: smoothing, stroke: color, width: 2, points: { show: false } },
      { ...edge },
      { ...edge },
    ];
  }

  banded(line) {
    return !line.dots && !this.options.smoothing && line.lows.some((low, index) => low !== line.highs[index]);
  }

  data() {
    const { x, log, smoothing } = this.options,
      empty = [];
    const fit = column => (log ? column.map(value => (value > 0 ? value : null)) : column);
    const tables = this.lines.map(line => {
      const at = [],
        kept = [];
      line.steps.forEach((step, index) => {
        const value = place(line, step, x, line.times[index]);
        if (value != null && (!at.length || value > at[at.length - 1])) {
          at.push(value);
          kept.push(index);
        }
      });
      const pick = column => fit(kept.map(index => column[index] ?? null));
      const unit = smoothingUnit(line);
      const smoothed = smoothing && !line.dots ? smooth(line.means, line.steps, smoothing, unit) : empty;
      const edges = this.banded(line) ? [line.lows, line.highs] : [empty, empty];
      return [at, pick(line.means), pick(smoothed), pick(edges[0]), pick(edges[1])];
    });
    return tables.length === 1 ? tables[0] : uPlot.join(tables);
  }

  // Where most values lie: a spike of the first steps must not press all others to the ground.
  usual(plot, low, high) {
    const found = usualRange(this.lines.flatMap(line => this.shownOf(line)));
    if (!found || low == null) return uPlot.rangeNum(low ?? 0, high ?? 1, MARGIN, true);
    if (this.options.log) return uPlot.rangeLog(Math.max(found[0], Number.MIN_VALUE), found[1], 10, true);
    return found[0] === found[1]
      ? uPlot.rangeNum(low, high, MARGIN, true)
      : [found[0] - MARGIN * (found[1] - found[0]), found[1] + MARGIN * (found[1] - found[0])];
  }

  // The means inside of the window; on a logarithmic axis those that it can show.
  shownOf(line) {
    const { x, log, window } = this.options;
    return line.means.filter((value, index) => {
      if (value == null || (log && value <= 0)) return false;
      const at = window && place(line, line.steps[index], x, line.times[index]);
      return !window || (at >= window[0] && at <= window[1]);
    });
  }

  // How many values a logarithmic axis cannot show.
  get numLeftOut() {
    return this.options.log ? countNotPositive(this.lines) : 0;
  }

  // New values of lines that are shown: at most so often, and without building anything anew.
  update() {
    this.drawing ||= setTimeout(() => {
      this.drawing = 0;
      if (this.plot) {
        for (const [index, line] of this.lines.entries())
          for (const series of this.plot.series.slice(4 * index + 1, 4 * index + 3))
            series.spanGaps = isJoined(line);
        this.plot.setData(this.data());
        this.tell(null);
      }
    }, 120);
  }

  select(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.zoomed(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
  }

  drawMarks(plot, color, font) {
    const { ctx, bbox } = plot,
      ratio = devicePixelRatio || 1,
      { x } = this.options;
    const inside = value => {
      const at = value == null ? NaN : plot.valToPos(value, "x", true);
      return at >= bbox.left - 1 && at <= bbox.left + bbox.width + 1 ? at : null;
    };
    ctx.save();
    ctx.font = font.replace("12px", `${11 * ratio}px`);
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    this.lines.forEach((line, index) => {
      ctx.fillStyle = this.lines.length > 2 ? this.colors[index] : color;
      for (const step of line.checkpoints || []) {
        const at = inside(place(line, step, x)),
          foot = bbox.top + bbox.height;
        if (at === null) continue;
        ctx.beginPath();
        ctx.moveTo(at, foot - 7 * ratio);
        ctx.lineTo(at + 4 * ratio, foot);
        ctx.lineTo(at - 4 * ratio, foot);
        ctx.fill();
      }
    });
    ctx.strokeStyle = ctx.fillStyle = color;
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    let free = -Infinity;
    const draw = (at, word) => {
      if (at === null) return;
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(word).width;
      const left = at + 4 * ratio + width > bbox.left + bbox.width ? at - width - 4 * ratio : at + 4 * ratio;
      if (left > free) {
        ctx.fillText(word, left, bbox.top + 11 * ratio);
        free = left + width + 4 * ratio;
      }
    };
    for (const line of this.lines)
      for (const mark of line.marks || []) {
        const timed = x === "time" || x === "elapsed",
          away = mark.resumed_at == null ? "" : " " + duration(mark.resumed_at - mark.at);
        draw(inside(place(line, mark.step, x, timed ? mark.at : null)), mark.word + (timed ? "" : away));
        if (timed && mark.resumed_at != null)
          draw(inside(place(line, mark.step, x, mark.resumed_at)), "resumed");
      }
    ctx.restore();
  }

  // The values at a place of the axis, or the newest.
  tell(at) {
    const { x } = this.options,
      shown = this.lines.map(line => {
        let index = line.steps.length - 1;
        while (
          index > 0 &&
          ((at != null && place(line, line.steps[index], x, line.times[index]) > at) ||
            line.means[index] == null)
        )
          index--;
        return index;
      });
    const first = this.lines[0],
      step = first ? first.steps[shown[0]] : null;
    const entries = step == null ? [] : [["step", count(step), null, false]];
    this.lines.forEach((line, index) => {
      const value = line.means[shown[index]],
        low = line.lows[shown[index]],
        high = line.highs[shown[index]];
      const range = low != null && low !== high ? ` (${loss(low)} \u2013 ${loss(high)})` : "";
      entries.push([line.label, loss(value) + range, this.colors[index], line.dots]);
    });
    this.legend.replaceChildren(
      ...entries.map(([name, text, color, dots]) => {
        const entry = document.createElement("span"),
          value = document.createElement("b");
        if (color) {
          const key = document.createElement("i");
          key.style.setProperty("--key", color);
          if (dots) key.className = "dots";
          entry.append(key);
        }
        value.textContent = text;
        entry.append(name, " ", value);
        return entry;
      }),
    );
  }
}

function fade(color, share) {
  return color.startsWith("rgb(") ? color.replace("rgb(", "rgba(").replace(")", `, ${share})`) : color;
}
