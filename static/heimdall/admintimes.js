// Times of the admin as the reader's clock shows them; the server's stand there until this runs.
for (const time of document.querySelectorAll("time[datetime][data-local]")) {
  const moment = new Date(time.dateTime);
  if (Number.isNaN(moment.getTime())) continue;
  time.title = moment.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
  time.textContent = moment.toLocaleString(undefined, {
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  });
}
