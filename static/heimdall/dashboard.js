// The admin's first page: whatever changes, its numbers are fetched again, as the pages do it.
import { refresh } from "./pages.js";
import { Socket } from "./socket.js";

const FOLD = 1000; // many changes at once are one look
new Socket(
  "ws/training/",
  () => "",
  () => refresh(FOLD),
  { quiet: true },
);
setInterval(() => document.hidden || refresh(), 5000);
