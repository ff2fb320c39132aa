// The log on a job's page: as a terminal shows it in the end. Colours stay, and of a progress bar what was drawn last.
// log_colors.py does the same for the lines that come with the page.
const COLOR = /\x1b\[([0-9;]*)m/g;
const OTHER_STEERING = /\x1b\[[0-9;?]*[ -/]*[@-ln-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][A-Z0-9]/g;
const MOST_PIECES = 400;

const folded = text =>
  text
    .replace(OTHER_STEERING, "")
    .replace(/^\r+|\r+\n/g, "\n")
    .replace(/[^\n]*\r(?=[^\r\n])/g, "");

// The classes that hold after a sequence of codes (ECMA-48, "select graphic rendition"): weight and colour.
function after(state, codes) {
  for (const code of codes.split(";").map(Number)) {
    const bold = state.filter(one => one === "ansi-bold");
    if (code === 0) state = [];
    else if (code === 1) state = [...state.filter(one => one !== "ansi-bold"), "ansi-bold"];
    else if (code === 22) state = state.filter(one => one !== "ansi-bold");
    else if (code === 39) state = bold;
    else if (code >= 30 && code <= 37) state = [...bold, `ansi-${code - 30}`];
    else if (code >= 90 && code <= 97) state = [...bold, `ansi-${code - 90}`];
  }
  return state;
}

export class Log {
  constructor(place, follow, wrap) {
    Object.assign(this, { place, follow, state: [] });
    this.date(place);
    this.down();
    place.addEventListener("scroll", () => {
      follow.checked = place.scrollHeight - place.scrollTop - place.clientHeight < 24;
    });
    follow.addEventListener("change", () => this.down());
    wrap.addEventListener("change", () => place.classList.toggle("unwrapped", !wrap.checked));
  }

  clear() {
    this.place.textContent = "";
    this.state = [];
  }

  add(chunks) {
    if (!chunks.length) return;
    for (const chunk of chunks) this.place.append(this.piece(chunk));
    this.date(this.place);
    while (this.place.childNodes.length > MOST_PIECES) this.place.firstChild.remove();
    this.down();
  }

  piece(chunk) {
    const piece = document.createElement("span"),
      text = folded(chunk.text);
    piece.dataset.at = chunk.created_at ?? "";
    let begin = 0;
    for (const found of text.matchAll(COLOR)) {
      this.put(piece, text.slice(begin, found.index));
      this.state = after(this.state, found[1]);
      begin = found.index + found[0].length;
    }
    this.put(piece, text.slice(begin));
    return piece;
  }

  put(piece, text) {
    const plain = text.replaceAll("\x1b", "");
    if (!plain) return;
    if (!this.state.length) return piece.append(plain);
    const colored = document.createElement("span");
    colored.className = this.state.join(" ");
    colored.textContent = plain;
    piece.append(colored);
  }

  // When a piece was printed, where the pointer rests.
  date(place) {
    for (const piece of place.querySelectorAll("[data-at]:not([title])")) {
      const moment = new Date(piece.dataset.at);
      if (!Number.isNaN(moment.getTime())) piece.title = moment.toLocaleString();
    }
  }

  down() {
    if (this.follow.checked) this.place.scrollTop = this.place.scrollHeight;
  }
}
