// Keys, for people who live on these pages. Never while somebody types or a dialog is open; #keys names them all.
// j and k move the real focus from job to job, so that Enter is the browser's own and a screen reader follows.
import { say } from "./pages.js";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const TYPES = "input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable], dialog";
const WAIT = 1500; // for the second key after g
let went = 0; // when g was pressed

const links = () => $$("[data-row] [data-open]");
const here = () => document.activeElement.closest("[data-row]");

function step(by) {
  const all = links(),
    at = all.indexOf(here() && $("[data-open]", here()));
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by];
  next?.focus({ preventScroll: true });
  next?.closest("[data-row]").scrollIntoView({ block: "nearest" });
}

function tick() {
  const box = here() && $("input[type=checkbox]", here());
  box?.click();
}

function press(verb) {
  const selected = $(`#bulk:not([hidden]) button[value="${verb}"]`);
  const root = here() ?? $("#head");
  const button = selected ?? (root && $(`button[data-verb="${verb}"]:not(:disabled)`, root));
  if (button) button.click();
  else if (root) say(`This job cannot be ${verb === "pause" ? "paused" : "resumed"} now.`, "warning");
}

function search() {
  const field = $("input[type=search]");
  field?.focus();
  field?.select();
}

const KEYS = {
  "/": search,
  j: () => step(1),
  k: () => step(-1),
  x: tick,
  p: () => press("pause"),
  r: () => press("resume"),
  "?": () => $("#keys")?.showModal(),
  g: () => {
    went = Date.now();
  },
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest?.(TYPES) || $("dialog[open]")) return;
  const place = Date.now() - went < WAIT ? $(`[data-go="${CSS.escape(event.key)}"]`) : null;
  went = 0;
  const act = place ? () => place.click() : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
$("#show-keys")?.addEventListener("click", KEYS["?"]);
