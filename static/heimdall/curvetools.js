// What both curve pages remember: how the axes are drawn. In the browser alone.
const STORED = "heimdall-curve";

export class Tools {
  // root: the form with the controls x, log, smoothing; changed() is called after each change.
  constructor(root, changed) {
    this.root = root;
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(STORED) || "{}");
    } catch {
      /* as the page has it */
    }
    const { x, log, all, smoothing } = root.elements;
    if ([...x.options].some(option => option.value === kept.x)) x.value = kept.x;
    log.checked = Boolean(kept.log);
    all.checked = Boolean(kept.all);
    smoothing.value = Number(kept.smoothing) || 0;
    root.addEventListener("submit", event => event.preventDefault());
    for (const field of [x, log, all, smoothing])
      field.addEventListener("input", () => {
        this.keep();
        changed();
      });
    this.tell();
  }

  get options() {
    const { x, log, all, smoothing } = this.root.elements;
    return { x: x.value, log: log.checked, all: all.checked, smoothing: Number(smoothing.value) };
  }

  // Epochs can stand on the axis once their length is known.
  allow(value, is) {
    const { x } = this.root.elements,
      option = [...x.options].find(one => one.value === value);
    if (!option) return;
    option.disabled = !is;
    if (!is && x.value === value) x.value = "step";
  }

  keep() {
    this.tell();
    try {
      localStorage.setItem(STORED, JSON.stringify(this.options));
    } catch {
      /* for this page only */
    }
  }

  tell() {
    this.root.elements.smoothed.value = this.options.smoothing ? this.options.smoothing.toFixed(2) : "off";
  }
}
