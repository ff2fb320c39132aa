// What recipes show beside the values. A recipe's artifact has a `kind`; who draws it stands here.
import { localization, rf_dataset } from "./localization.js";

const DRAWN_BY = { localization, rf_dataset };

for (const root of document.querySelectorAll("[data-artifact]")) {
  let kind = "",
    show = null,
    loading = false,
    again = false;

  async function load() {
    if (loading) {
      again = true;
      return;
    }
    loading = true;
    try {
      const answer = await fetch(root.dataset.artifact, { headers: { Accept: "application/json" } });
      if (answer.ok) draw(await answer.json());
    } catch {
      /* the next news asks again */
    }
    loading = false;
    if (again) {
      again = false;
      load();
    }
  }

  function draw(found) {
    const content = "content" in found ? found.content : found;
    root.hidden = !content || !DRAWN_BY[content.kind];
    if (root.hidden) return;
    if (kind !== content.kind) {
      kind = content.kind;
      show = DRAWN_BY[kind](root);
    }
    show(content, found);
  }

  load();
  document.addEventListener("epochs", load); // a training closed an epoch, or was rolled back
  // Data that are still being made.
  if (root.dataset.every) setInterval(() => document.hidden || load(), Number(root.dataset.every));
}
