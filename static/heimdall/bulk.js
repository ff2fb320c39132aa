// Selecting jobs of the list, and asking one verb of all that are selected. Without it the same form is always there.
import { ask } from "./pages.js";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const boxes = () => $$('#rows input[name="job"]');
let last = null; // the box that was selected last: shift selects all from there

function show() {
  const bulk = $("#bulk");
  if (!bulk) return;
  const all = boxes(),
    selected = all.filter(box => box.checked),
    which = bulk.elements.which;
  const everything = which.value === "matching" && selected.length === all.length;
  bulk.hidden = selected.length === 0;
  which.value = everything ? "matching" : "selected";
  for (const option of which.options)
    option.hidden = option.value === "page" || (option.value === "matching" && selected.length < all.length);
  which.hidden = selected.length < all.length;
  // Only what at least one of them can do; of those that are not on this page nobody knows it here.
  const possible = new Set(selected.flatMap(box => box.closest("tr").dataset.verbs.split(" ")));
  for (const button of $$('[name="verb"]', bulk)) button.hidden = !everything && !possible.has(button.value);
  $("#num-selected").textContent = everything ? "" : `${selected.length} selected`;
  const head = $("#tick-all");
  head.checked = selected.length === all.length;
  head.indeterminate = selected.length > 0 && !head.checked;
  for (const box of all) box.closest("tr").classList.toggle("selected", box.checked);
}

function tick(wanted, among = boxes()) {
  for (const box of among) box.checked = wanted;
  show();
}

function range(box) {
  const all = boxes(),
    ends = [all.indexOf(last), all.indexOf(box)].sort((one, other) => one - other);
  if (ends[0] >= 0) tick(box.checked, all.slice(ends[0], ends[1] + 1));
}

document.addEventListener("click", event => {
  const box = event.target.closest?.('#rows input[name="job"]');
  if (box && event.shiftKey && last) range(box);
  if (box) last = box;
  if (event.target.id === "untick") tick(false);
  if (event.target.id === "compare")
    location.assign(
      `${event.target.dataset.to}?jobs=${boxes()
        .filter(one => one.checked)
        .map(one => one.value)
        .join(",")}`,
    );
});
document.addEventListener("change", event => {
  if (event.target.id === "tick-all") tick(event.target.checked);
  else if (event.target.closest("#rows, #bulk")) show();
});
document.addEventListener("keydown", event => {
  if (event.key === "Escape" && !$("dialog[open]") && !event.target.closest("details[open]")) tick(false);
});
document.addEventListener("submit", event => {
  if (event.target.id !== "bulk") return;
  event.preventDefault();
  ask(event.target.action, new FormData(event.target, event.submitter));
});
document.addEventListener("refreshed", show);
document.addEventListener("answered", () => tick(false));
show();
