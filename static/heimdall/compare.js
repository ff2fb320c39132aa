// The curves of several jobs over each other, a panel for each metric: the same read as on the page of each. Jobs that
// still train are read again now and then.
import { lead, place, stepAt } from "./linedata.js";
import { PanelGrid } from "./panels.js";
import { Tools } from "./curvetools.js";

const AT_ONCE = 8; // metrics that one answer has
const SIDE_BY_SIDE = 6; // requests under way
const NAMED_COLORS = 8;
const LIVE_EVERY = 5000;
const TURN = 137.508; // degrees, the golden angle: neighbours differ most

const root = document.querySelector("#chart"),
  form = document.querySelector("#curve-tools");
const jobs = JSON.parse(document.querySelector("#compared-jobs").textContent);

let found = new Map(), // metric -> a line for each job that has it
  metrics = [],
  ranges = null,
  asking = 0;
const grid = new PanelGrid(root, document.querySelector("#panel-adder"), zoom, load, false);
const tools = new Tools(form, changed);
form.elements.whole.addEventListener("click", () => zoom(null, null));

const colorOf = index =>
  index < NAMED_COLORS ? `curve-${index + 1}` : `hsl(${Math.round(index * TURN) % 360} 62% 48%)`;
const dashOf = index => (index < 4 ? undefined : index < 6 ? [8, 4] : index < NAMED_COLORS ? [2, 3] : [6, 3]);

async function ask(job, wanted) {
  const asked = new URLSearchParams({
    metric: wanted.join(","),
    points: Math.min(Math.max(Math.round(root.clientWidth / 3), 100), 1000),
  });
  const range = ranges?.get(job.id);
  if (range) {
    asked.set("from", Math.max(range[0] - lead({ span: job.span }, tools.options.smoothing), 1));
    asked.set("to", range[1]);
  }
  const answer = await fetch(`${job.curve}?${asked}`);
  if (!answer.ok) throw answer;
  return answer.json();
}

// All of the requests, a few at a time, in their order.
async function inTurn(tasks) {
  const results = [];
  let next = 0;
  const work = async () => {
    while (next < tasks.length) {
      const mine = next++;
      results[mine] = await tasks[mine]();
    }
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, work));
  return results;
}

async function load() {
  const mine = ++asking;
  try {
    if (!metrics.length) offer(await inTurn(jobs.map(job => () => ask(job, ["val_loss"]))));
    const wanted = grid.wanted,
      tasks = [];
    for (const job of jobs)
      for (let begin = 0; begin < wanted.length; begin += AT_ONCE)
        tasks.push(async () => [job, await ask(job, wanted.slice(begin, begin + AT_ONCE))]);
    const answers = await inTurn(tasks);
    if (mine === asking) take(answers);
  } catch {
    if (mine === asking) grid.note("The server did not answer. Reload the page to try again.");
  }
}

// The validation first: it is what trainings are compared by.
function offer(answers) {
  const known = new Map(answers.flatMap(data => data.metrics.map(one => [one.name, one])));
  const rank = name => (name === "val_loss" ? 0 : name.startsWith("val_") ? 1 : name === "loss" ? 2 : 3);
  metrics = [...known.values()].sort((one, other) => rank(one.name) - rank(other.name));
  grid.offer(metrics); // each panel holds one value of all jobs
}

function take(answers) {
  const begun = new Map([...found.values()].flat().map(line => [line.job, line.begun]));
  found = new Map();
  for (const [job, data] of answers) {
    const index = jobs.indexOf(job);
    job.span = data.last_step - data.first_step + 1;
    job.perEpoch = data.steps_per_epoch;
    for (const series of data.series) {
      if (!found.has(series.metric)) found.set(series.metric, []);
      found.get(series.metric).push({
        ...series,
        job: job.id,
        label: job.name,
        color: colorOf(index),
        dash: dashOf(index),
        dots: series.per === "epoch",
        perEpoch: job.perEpoch,
        span: job.span,
        begun: begun.get(job.id) ?? series.times[0],
        marks: job.origin
          ? [{ step: job.origin, word: `fork of #${job.parent}`, at: null, resumed_at: null }]
          : [],
      });
    }
  }
  tools.allow(
    "epoch",
    jobs.every(job => job.perEpoch),
  );
  form.elements.whole.hidden = !ranges;
  show();
}

function show() {
  if (!metrics.length) grid.note("None of these jobs has values yet.");
  else if (!grid.keys.length) grid.note("No panel is chosen. Add one above.");
  else
    grid.show(
      names => names.flatMap(name => (found.get(name) ?? []).filter(line => line.steps.length)),
      { ...tools.options, window: windowOf() },
      "None of these jobs has such a value.",
    );
}

function windowOf() {
  if (!ranges) return null;
  const { x } = tools.options,
    lines = [...found.values()].flat().filter(line => line.steps.length);
  const ends = lines.flatMap(line => (ranges.get(line.job) ?? []).map(step => place(line, step, x)));
  const known = ends.filter(at => at != null);
  return known.length ? [Math.min(...known), Math.max(...known)] : null;
}

function changed() {
  if (ranges) load();
  else show();
}

function zoom(from, to) {
  const { x } = tools.options,
    lines = new Map([...found.values()].flat().map(line => [line.job, line]));
  ranges =
    from == null
      ? null
      : new Map(
          [...lines].map(([job, line]) => [
            job,
            [Math.max(stepAt(line, from, x), 1), Math.max(stepAt(line, to, x), 1)],
          ]),
        );
  load();
}

for (const key of document.querySelectorAll("[data-color]"))
  if (Number(key.dataset.color) > NAMED_COLORS)
    key.style.borderColor = colorOf(Number(key.dataset.color) - 1);
if (jobs.some(job => job.is_live)) setInterval(() => document.hidden || ranges || load(), LIVE_EVERY);
load();
