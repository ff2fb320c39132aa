// A socket that reconnects: with growing backoff, when the network or the page is there again, and when it fell
// silent.
// `query` says what to ask for at each opening. A quiet one shows nothing of all this at the head of the page.
import { BASE, say } from "./pages.js";

const AGAIN = [500, 1000, 2000, 4000, 8000, 15000];

export class Socket {
  constructor(path, query, receive, { quiet = false } = {}) {
    Object.assign(this, { path, query, receive, quiet, tries: 0, heard: 0 });
    this.open();
    setInterval(() => this.check(), 10000);
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
    addEventListener("pagehide", () => {
      this.ended = true;
      this.socket.close();
    });
    addEventListener("pageshow", event => {
      if (event.persisted) {
        this.ended = false;
        this.open();
      }
    });
  }
  open() {
    clearTimeout(this.waiting);
    this.waiting = 0;
    const scheme = location.protocol === "https:" ? "wss://" : "ws://",
      query = this.query();
    const socket = new WebSocket(scheme + location.host + BASE + this.path + (query ? "?" + query : ""));
    this.socket = socket;
    socket.onopen = () => {
      this.heard = Date.now();
    };
    socket.onmessage = event => {
      if (socket !== this.socket) return;
      this.heard = Date.now();
      this.tries = 0;
      this.mark("open", "live");
      const message = JSON.parse(event.data);
      if (message.type !== "pong") this.receive(message);
    };
    socket.onclose = event => {
      if (socket === this.socket && !this.ended) this.closed(event.code);
    };
  }
  closed(code) {
    if (code === 4401) return this.quiet ? null : location.reload();
    if (code === 4404) {
      this.mark("waiting", "gone");
      return say("This job was deleted, or is not visible to you any longer.", "warning");
    }
    if (code === 4403) return this.mark("waiting", "not live");
    this.mark("waiting", "reconnecting");
    this.waiting = setTimeout(() => this.open(), AGAIN[Math.min(this.tries++, AGAIN.length - 1)]);
  }
  reopen() {
    const old = this.socket;
    this.open();
    old.close();
  }
  hurry() {
    if (this.waiting) this.open();
    else this.check();
  }
  check() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    if (Date.now() - this.heard > 30000) {
      this.mark("waiting", "reconnecting");
      this.reopen();
    } else this.socket.send('{"type":"ping"}');
  }
  mark(word, text) {
    const mark = this.quiet ? null : document.getElementById("link-state");
    if (!mark || (mark.dataset.state === word && mark.textContent === text)) return;
    mark.dataset.state = word;
    mark.textContent = text;
  }
}
