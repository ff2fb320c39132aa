// The live client: one socket a page. A change of state fetches the page's fragments again; numbers are written
// in place.
import { Curve } from "./chart.js";
import * as format from "./format.js";
import { Log } from "./log.js";
import { dropOldMessages, refresh } from "./pages.js";
import { Socket } from "./socket.js";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// The same expression stands in templatetags/heimdall.py.
function keyOf(job) {
  const stop = job.stop || { kind: "", at: "" };
  return [
    job.status,
    stop.kind,
    stop.at,
    job.verbs.join(" "),
    job.attempt,
    job.job_name,
    job.priority,
    job.tags.join(" "),
    `${job.total_epochs}/${job.total_steps ? 1 : 0}`,
  ].join("|");
}

// What the badge says.
const word = job =>
  (job.status === "running" &&
    { pause: "pausing", preempt: "preempted", cancel: "cancelling" }[job.stop?.kind]) ||
  job.status;

const endedEarly = job =>
  job.status === "completed" &&
  (job.current_epoch < job.total_epochs || job.current_step < (job.total_steps ?? 0));

const derived = {
  of_total_steps: job => (endedEarly(job) ? "" : format.of(job.total_steps)),
  of_total_epochs: job => (endedEarly(job) ? ", stopped early" : format.of(job.total_epochs)),
  more: job => {
    const isEarly = job.status === "completed" && job.recipe && job.current_epoch < job.total_epochs;
    const headline = job.headline.startsWith(word(job))
      ? job.headline.slice(word(job).length).replace(/^[, ]+/, "")
      : job.headline;
    return [isEarly ? "stopped early" : headline, job.waiting?.message].filter(Boolean).join(". ");
  },
  row_more: job =>
    job.status === "failed" ? (job.error_message || job.error_code).split("\n")[0] : derived.more(job),
  progress_words: job => {
    if (job.total_epochs)
      return `epoch ${format.count(job.current_epoch)} of ${format.count(job.total_epochs)}`;
    const steps = `${format.count(job.current_step)}${format.of(job.total_steps)}`;
    if (job.job_type === "synthetic_data") return `${steps} shards`;
    return job.current_epoch ? `epoch ${format.count(job.current_epoch)}, step ${steps}` : `step ${steps}`;
  },
  epoch_percent: job => {
    if (!job.total_steps || !job.total_epochs) return 0;
    const steps = job.total_steps / job.total_epochs,
      inside = job.current_step - job.current_epoch * steps;
    return inside <= 0 && job.current_epoch > 0 ? 100 : 100 * Math.min(Math.max(inside / steps, 0), 1);
  },
};

function write(root, job) {
  for (const place of $$("[data-f]", root)) {
    const name = place.dataset.f,
      kind = place.dataset.as;
    const value = derived[name]
      ? derived[name](job)
      : name.startsWith("metrics.")
        ? job.metrics[name.slice(8)]
        : job[name];
    if (kind === "value") {
      if (place.value !== (value ?? 0)) place.value = value ?? 0;
      continue;
    }
    const text = kind ? format[kind](value) : (value ?? "");
    if (place.textContent !== text) place.textContent = text;
  }
}

function list(root, path) {
  const rows = () => $$("tr[data-job]", root);
  const plain = root.dataset.plain === "1";
  const wanted = () =>
    plain
      ? ""
      : "ids=" +
        rows()
          .slice(0, 200)
          .map(row => row.dataset.job)
          .join(",");
  let seen = wanted(),
    first = true;
  const sparks = new Sparks(root);
  const socket = plain || rows().length ? new Socket(path, wanted, receive) : null;

  function receive(message) {
    let stale = false;
    for (const job of message.jobs) {
      const row = document.getElementById(`job-${job.id}`);
      if (row && row.dataset.key === keyOf(job)) {
        write(row, job);
        sparks.follow(row, job);
      } else stale = true;
    }
    stale ||= (message.gone || []).some(id => document.getElementById(`job-${id}`));
    if (message.type === "picture" && !first) stale = true;
    first = false;
    if (stale) refresh();
  }
  if (!plain) {
    setInterval(() => document.hidden || refresh(), 5000);
    document.addEventListener("refreshed", () => {
      if (socket && wanted() !== seen) {
        seen = wanted();
        socket.reopen();
      }
    });
  }
}

// The small curves of jobs that went on, asked for together and not more often than every two seconds.
class Sparks {
  constructor(root) {
    Object.assign(this, { root, waiting: new Set(), timer: 0 });
  }
  follow(row, job) {
    const spark = $("[data-spark]", row);
    if (!spark || Number(spark.dataset.step) === job.current_step) return;
    spark.dataset.step = job.current_step;
    this.waiting.add(job.id);
    this.timer ||= setTimeout(() => this.draw(), 2000);
  }
  async draw() {
    const ids = [...this.waiting].slice(0, 50);
    for (const id of ids) this.waiting.delete(id);
    this.timer = this.waiting.size ? setTimeout(() => this.draw(), 2000) : 0;
    try {
      const answer = await fetch(`${this.root.dataset.sparks}?ids=${ids}`);
      for (const [id, { path, words }] of Object.entries(answer.ok ? await answer.json() : {}))
        this.put(id, path, words);
    } catch {
      /* the next step asks again */
    }
  }
  put(id, path, words) {
    const spark = $(`#job-${id} [data-spark]`, this.root);
    if (!spark) return;
    $("path", spark).setAttribute("d", path);
    spark.setAttribute("role", "img");
    spark.removeAttribute("aria-hidden");
    spark.setAttribute("aria-label", words);
  }
}

function job(root, path) {
  const curve = new Curve($("#chart"), $("#curve-tools"), $("#panel-adder"));
  const log = new Log($("#log"), $("#follow"), $("#wrap"));
  let next = "",
    shown = null; // the attempt and the status that the curve's marks were read for
  new Socket(
    path,
    () => next,
    message => {
      const { job: now, epochs, steps, events } = message;
      next = message.next ?? next;
      if (message.type === "picture") {
        log.clear();
        curve.load();
      } else {
        if (message.rolled_back_to != null) curve.rollBack(message.rolled_back_to.step);
        curve.add(steps, epochs);
      }
      if (epochs.length || message.rolled_back_to != null) document.dispatchEvent(new Event("epochs"));
      log.add(message.log);
      const mark = `${now.attempt} ${now.status}`;
      if (shown !== null && shown !== mark) curve.load(1000);
      shown = mark;
      write(root, now);
      const done = now.status === "running" ? `${Math.floor(now.progress_percent)} % ` : "";
      document.title = `${done}${now.job_name} \u00b7 Heimdall`;
      if ($("#head").dataset.key !== keyOf(now)) {
        dropOldMessages();
        refresh();
      }
      if (events.length && message.type !== "picture") refresh(700);
    },
  );
}

// What happened, in all jobs: read again when a job has a new event, and now and then for jobs that are not among
// the newest.
function activity(path) {
  const seen = new Map();
  new Socket(
    path,
    () => "",
    message => {
      const news =
        message.type === "picture"
          ? seen.size > 0
          : message.jobs.some(job => seen.get(job.id) !== job.event_seq);
      for (const job of message.jobs) seen.set(job.id, job.event_seq);
      if (news || message.gone?.length) refresh();
    },
  );
  setInterval(() => document.hidden || refresh(), 10000);
}

const path = document.querySelector("script[data-socket]").dataset.socket;
const jobs = $("[data-live-list]"),
  one = $("[data-live-job]");
if (jobs) list(jobs, path);
if ($("[data-live-activity]")) activity(path);
if (one) job(one, path);
