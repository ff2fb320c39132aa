// Buttons that copy: [data-copy] the text that stands there, [data-copies] the text of the element with that id.
// Where the browser allows no clipboard, the text is shown selected, ready for the reader's own keys.
import { say } from "./pages.js";

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    /* not allowed, or no such thing here */
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.readOnly = true;
  field.className = "sr";
  document.body.append(field);
  field.select();
  let done = false;
  try {
    done = document.execCommand("copy");
  } catch {
    /* shown below */
  }
  field.remove();
  return done;
}

function show(text) {
  const dialog = document.getElementById("dialog"),
    form = document.createElement("form"),
    field = document.createElement("textarea"),
    close = document.createElement("button");
  form.className = "ask";
  form.method = "dialog";
  field.value = text;
  field.readOnly = true;
  field.rows = 8;
  field.className = "json";
  field.setAttribute("aria-label", "The text to copy");
  close.className = "button";
  close.dataset.close = "";
  close.textContent = "Close";
  form.append("The browser blocked copying. The text is selected: press Ctrl-C.", field, close);
  dialog.replaceChildren(form);
  dialog.showModal();
  field.select();
}

document.addEventListener("click", async event => {
  const button = event.target.closest("[data-copy], [data-copies]");
  if (!button) return;
  const text = button.dataset.copy ?? document.getElementById(button.dataset.copies).textContent;
  if (await copy(text)) {
    say("Copied.");
    button.focus();
  } else show(text);
});
