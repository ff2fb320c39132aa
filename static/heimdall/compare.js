// The curves of several jobs over each other: the same read as on the page of each.
import { Plot, stepAt } from "./lines.js";
import { Tools } from "./curvetools.js";

const place = document.querySelector("#chart"),
  form = document.querySelector("#curve-tools");
const DASHES = [undefined, undefined, undefined, undefined, [8, 4], [8, 4], [2, 3], [2, 3]];
const jobs = [];
for (let number = 1; place.dataset[`curve-${number}`]; number++)
  jobs.push({ number, address: place.dataset[`curve-${number}`], name: place.dataset[`name-${number}`] });

let lines = [],
  metric = "loss",
  ranges = null,
  asking = 0;
const plot = new Plot(place, document.querySelector("#legend"), zoom);
const tools = new Tools(form, show);
form.elements.metric.addEventListener("change", () => {
  metric = form.elements.metric.value;
  ranges = null;
  load();
});
form.elements.whole.addEventListener("click", () => zoom(null, null));

function show() {
  if (lines.some(line => line.steps.length)) plot.show(lines, tools.options);
  else plot.note("None of these jobs has values yet.");
}

async function fetched(job, index) {
  const asked = new URLSearchParams({
    metric,
    points: Math.min(Math.max(Math.round(place.clientWidth / 2), 100), 1000),
  });
  if (ranges) {
    asked.set("from", ranges[index][0]);
    asked.set("to", ranges[index][1]);
  }
  const answer = await fetch(`${job.address}?${asked}`);
  if (!answer.ok) throw answer;
  return answer.json();
}

async function load() {
  const mine = ++asking;
  let found;
  try {
    found = await Promise.all(jobs.map(fetched));
  } catch {
    plot.note("The server did not answer. Reload the page to try again.");
    return;
  }
  if (mine !== asking) return;
  lines = found.map((data, index) => {
    const series = data.series[0],
      begun = lines[index]?.begun ?? series.times[0];
    return {
      ...series,
      label: jobs[index].name,
      color: `curve-${jobs[index].number}`,
      dash: DASHES[index],
      dots: series.per === "epoch",
      perEpoch: data.steps_per_epoch,
      begun,
    };
  });
  offer(found);
  tools.allow(
    "epoch",
    found.every(data => data.steps_per_epoch),
  );
  form.elements.whole.hidden = !ranges;
  show();
}

function offer(found) {
  const names = [...new Set(found.flatMap(data => data.metrics.map(one => one.name)))],
    select = form.elements.metric;
  if (names.join() === [...select.options].map(option => option.value).join()) return;
  select.replaceChildren(...names.map(name => new Option(name, name)));
  if (names.includes(metric)) select.value = metric;
}

function zoom(from, to) {
  const { x } = tools.options;
  ranges =
    from == null
      ? null
      : lines.map(line => [Math.max(stepAt(line, from, x), 1), Math.max(stepAt(line, to, x), 1)]);
  load();
}

load();
