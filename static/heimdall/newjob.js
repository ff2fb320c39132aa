// The form of a new job: how many of the folded settings were changed, and settings pasted as JSON.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

const valueOf = input => (input.type === "checkbox" ? (input.checked ? "1" : "") : input.value.trim());

function count(rest) {
  const fields = $$(".field[data-default]", rest);
  const changed = fields.filter(field => {
    const input = $("input, select, textarea", field);
    return input && valueOf(input) !== field.dataset.default.trim();
  });
  $("[data-num-changed]", rest).textContent = changed.length ? `${changed.length} changed` : "";
}

// Settings alone, or a whole job as the API shows it.
function settingsOf(text) {
  const given = JSON.parse(text);
  if (given === null || typeof given !== "object" || Array.isArray(given))
    throw new Error("Paste an object: names of settings with their values.");
  return given.config && typeof given.config === "object" ? given.config : given;
}

function fill(settings) {
  const form = $("form.new-job");
  const unknown = [];
  for (const [name, value] of Object.entries(settings)) {
    const input = form.elements[`config.${name}`];
    if (!input) {
      unknown.push(name);
      continue;
    }
    if (input.type === "checkbox") input.checked = Boolean(value);
    else input.value = typeof value === "object" ? JSON.stringify(value) : String(value);
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }
  return unknown;
}

function paste() {
  const wrong = $("#paste-wrong");
  let sentence = "";
  try {
    const unknown = fill(settingsOf($("#pasted").value));
    if (unknown.length) sentence = `This recipe has no ${unknown.join(", ")}; the others are filled in.`;
    else $("#paste").closest("details").open = false;
  } catch (error) {
    sentence = `This cannot be read: ${error.message}`;
  }
  wrong.textContent = sentence;
  wrong.hidden = !sentence;
}

document.addEventListener("input", event => {
  const rest = event.target.closest("details.rest");
  if (rest) count(rest);
});
$("#paste")?.addEventListener("click", paste);
