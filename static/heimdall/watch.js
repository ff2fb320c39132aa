// Tells in this browser how watched jobs end: on every page, for as long as one is open. Also the Watch button.
import { BASE, refresh, say } from "./pages.js";
import { Socket } from "./socket.js";

const $ = (selector, root = document) => root.querySelector(selector);
const ENDS = { completed: "completed", failed: "failed", cancelled: "was cancelled", paused: "is paused" };
const offered = "Notification" in window && isSecureContext;
const KEPT = "heimdall-watched";
// The last status of each watched job, kept from page to page, so that nothing ends unnoticed between two.
const seen = recall();
let socket = null,
  watched = [];

const allowed = () => offered && Notification.permission === "granted";

async function follow() {
  if (!allowed()) return;
  try {
    watched = (
      await (
        await fetch(BASE + "settings/notifications/watched/", { headers: { Accept: "application/json" } })
      ).json()
    ).jobs;
  } catch {
    return;
  }
  const wanted = () => [...new Set([...watched, ...seen.keys()])].slice(0, 200);
  if (socket) socket.reopen();
  else if (wanted().length)
    socket = new Socket("ws/training/", () => `ids=${wanted().join(",")}`, receive, { quiet: true });
}

function receive({ type, jobs = [] }) {
  if (type === "picture") for (const id of seen.keys()) if (!jobs.some(job => job.id === id)) seen.delete(id);
  jobs.forEach(look);
  try {
    sessionStorage.setItem(KEPT, JSON.stringify([...seen]));
  } catch {
    /* for this page only */
  }
}

function recall() {
  try {
    return new Map(JSON.parse(sessionStorage.getItem(KEPT) || "[]"));
  } catch {
    return new Map();
  }
}

function look(job) {
  const before = seen.get(job.id);
  if (ENDS[job.status] && job.status !== "paused") seen.delete(job.id);
  else seen.set(job.id, job.status);
  if (before && !ENDS[before] && ENDS[job.status]) tell(job);
}

function tell(job) {
  // The same tag from several open pages is one notification.
  const told = new Notification(`${job.job_name} ${ENDS[job.status]}`, {
    body: `Job ${job.id}, ${job.headline}`,
    tag: `heimdall-${job.id}-${job.attempt}-${job.status}`,
    icon: $("link[rel=icon]")?.href,
  });
  told.onclick = () => {
    focus();
    location.assign(`${BASE}jobs/${job.id}/`);
    told.close();
  };
}

// A permission may be asked for only in answer to a click.
async function askBrowser() {
  if (offered && Notification.permission === "default") await Notification.requestPermission();
  show();
}

document.addEventListener("submit", async event => {
  const form = event.target.closest("form[data-watch]");
  if (!form) return;
  event.preventDefault();
  if (form.elements.watched.value === "1") await askBrowser();
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { Accept: "application/json" },
    });
    const { message, watched } = await answer.json();
    say(
      watched && allowed()
        ? `${message} This browser will tell how it ends, while a page of Heimdall is open.`
        : message,
      answer.ok ? "success" : "warning",
    );
    if (!watched) seen.delete(Number(form.closest("[data-job]")?.dataset.job));
  } catch {
    say("The server did not answer; try again in a moment.", "error");
  }
  refresh();
  follow();
});

function show() {
  const state = $("#browser-state"),
    button = $("#browser-allow");
  if (!state) return;
  const sentences = {
    granted: "This browser shows a notification when a watched job ends, while a page of Heimdall is open.",
    denied: "Notifications of this site are blocked in your browser.",
    default:
      "This browser can show a notification when a watched job ends, while a page of Heimdall is open.",
  };
  state.textContent = offered
    ? sentences[Notification.permission]
    : "Browsers show notifications only on https:// and on localhost.";
  button.hidden = !offered || Notification.permission !== "default";
}

$("#browser-allow")?.addEventListener("click", async () => {
  await askBrowser();
  follow();
});
const often = $("[data-often]"); // its value: milliseconds
if (often) setInterval(() => document.hidden || refresh(), Number(often.dataset.often) || 2000);
show();
follow();
