// What every page does: times, theme, menus, and verbs in a dialog. Without it all of this works as plain forms;
// keys.js has the keys.
import { ago } from "./format.js";

// The path below which Heimdall is served, with a slash at its end: this file is static/heimdall/pages.js below it.
export const BASE = new URL("../../", import.meta.url).pathname;
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const dialog = $("#dialog");

export function dress(root = document) {
  for (const shown of $$("[data-js]", root)) shown.hidden = false;
  for (const time of $$("time[datetime]", root)) {
    const moment = Date.parse(time.dateTime);
    if (Number.isNaN(moment)) continue;
    const at = new Date(moment);
    time.title = at.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
    const text =
      "ago" in time.dataset
        ? ago(moment)
        : at.toLocaleString(undefined, {
            month: "short",
            day: "numeric",
            hour: "2-digit",
            minute: "2-digit",
            second: "2-digit",
            hourCycle: "h23",
          });
    if (time.textContent !== text) time.textContent = text;
  }
}

export function say(text, level = "success") {
  const line = document.createElement("p");
  line.className = `message ${level}`;
  line.textContent = text;
  letGo(line);
  $("#messages").replaceChildren(line);
}

// What was said of a state that is over would be wrong now. What was only just said is about the new one.
export function dropOldMessages() {
  for (const line of $$("#messages > .message")) if (Date.now() - line.dataset.saidAt > 3000) line.remove();
}

// A message can be closed, and one of success goes by itself.
function letGo(line) {
  line.dataset.saidAt = Date.now();
  const close = document.createElement("button");
  close.className = "link";
  close.type = "button";
  close.textContent = "Close";
  close.addEventListener("click", () => line.remove());
  line.append(close);
  if (line.classList.contains("success")) setTimeout(() => line.remove(), 8000);
}

// The page as the server has it now, put into the page that is shown: focus, open menus and scrolling stay.
let running = null,
  again = false,
  timer = 0;
export function refresh(delay = 0) {
  if (delay) {
    timer ||= setTimeout(() => {
      timer = 0;
      refresh();
    }, delay);
    return;
  }
  if (running) {
    again = true;
    return;
  }
  running = load().finally(() => {
    running = null;
    if (again) {
      again = false;
      refresh(150);
    }
  });
}

async function load() {
  let answer;
  try {
    answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  } catch {
    return;
  }
  if (answer.redirected && new URL(answer.url).pathname !== location.pathname)
    return location.assign(answer.url);
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of $$("[data-fragment]")) {
    const now = fresh.getElementById(old.id);
    if (now) morph(old, now);
  }
  dress();
  document.dispatchEvent(new Event("refreshed"));
}

function morph(old, now) {
  if (old.nodeType !== 1) {
    if (old.data !== now.data) old.data = now.data;
    return;
  }
  for (const { name } of [...old.attributes])
    if (!now.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of now.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const byId = new Map([...old.children].filter(child => child.id).map(child => [child.id, child]));
  let at = old.firstChild;
  for (const child of [...now.childNodes]) {
    const same = child.id ? byId.get(child.id) : at && !at.id && at.nodeName === child.nodeName ? at : null;
    if (!same) {
      old.insertBefore(document.importNode(child, true), at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else old.insertBefore(same, at);
    morph(same, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// What an answer says that is neither the page nor the JSON that was asked for: too many requests, say.
async function sentence(reply) {
  const isText = (reply.headers.get("Content-Type") || "").startsWith("text/plain");
  return isText ? reply.text() : `The server answered ${reply.status}; nothing was done. Reload the page.`;
}

// A verb: its confirmation page in a dialog, then the answer as a message. With a body it is asked of many jobs.
export async function ask(address, body = null) {
  let form = null,
    answer = null;
  try {
    answer = await fetch(address, {
      headers: { Accept: "text/html" },
      ...(body && { method: "POST", body: new URLSearchParams(body) }),
    });
    if (answer.status === 429) return say(await sentence(answer), "warning");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    form = page.querySelector("form[data-ask]");
  } catch {
    /* shown as a plain page, or said, below */
  }
  if (!form && body)
    return say(answer ? await sentence(answer) : "The server did not answer. Nothing was done.", "error");
  if (!form) return location.assign(address);
  dialog.replaceChildren(document.importNode(form, true));
  dialog.showModal();
  ($("button:not([type=button])", dialog) || $("[data-close]", dialog)).focus();
}

async function answer(form, submitter) {
  if (submitter) submitter.disabled = true;
  try {
    const reply = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { Accept: "application/json" },
    });
    if (!(reply.headers.get("Content-Type") || "").startsWith("application/json")) {
      dialog.close();
      return reply.redirected ? location.reload() : say(await sentence(reply), "warning");
    }
    const { message, gone } = await reply.json();
    dialog.close();
    if (gone && $("[data-live-job]")) return location.assign(BASE);
    say(message, reply.ok && !message.includes("\n") ? "success" : "warning");
    document.dispatchEvent(new Event("answered"));
    refresh();
  } catch {
    dialog.close();
    say("The server did not answer. It may have been done or not; check again in a moment.", "error");
  }
}

function closeMenus(except) {
  for (const menu of $$("details.menu[open]")) if (menu !== except) menu.open = false;
}

document.addEventListener("click", event => {
  closeMenus(event.target.closest("details.menu"));
  const verb = event.target.closest("button[data-verb], a[data-asks]");
  if (verb) {
    event.preventDefault();
    closeMenus();
    ask(verb.formAction || verb.href);
  }
  if (dialog?.open && (event.target === dialog || event.target.closest("[data-close]"))) {
    event.preventDefault();
    dialog.close();
  }
});
dialog?.addEventListener("submit", event => {
  event.preventDefault();
  answer(event.target, event.submitter);
});
document.addEventListener("keydown", event => {
  if (event.key === "Escape") closeMenus();
});
for (const select of $$(".filters > select"))
  select.addEventListener("change", () => select.form.requestSubmit());
// On a phone the pages fold into one button; without JavaScript they stand below each other's line.
const menu = $("#menu");
menu?.addEventListener("click", () =>
  menu.setAttribute("aria-expanded", String(menu.getAttribute("aria-expanded") !== "true")),
);

const themes = $("#theme");
if (themes) {
  themes.hidden = false;
  themes.addEventListener("click", () => {
    const root = document.documentElement;
    const now = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("heimdall-theme", root.dataset.theme);
    } catch {
      /* for this page only */
    }
    document.dispatchEvent(new Event("themed"));
  });
}
dress();
for (const line of $$("#messages > .message")) letGo(line);
$("[aria-invalid=true]")?.focus(); // the first field that the server refused
setInterval(dress, 15000);
