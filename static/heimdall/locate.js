// The map of located transmitters. Coasts and borders come from this server; tiles only if the operator named some.
const { answers } = JSON.parse(document.getElementById("answers").textContent);
const root = document.getElementById("map");
const leaflet = window.L;
const LABEL_GAP = 8; // pixels from a receiver's centre to its name, about as leaflet's own margins put it
const labelled = [];
root.querySelector("[data-noscript]")?.remove();

const map = leaflet.map(root, { worldCopyJump: true, zoomSnap: 0.5, preferCanvas: false });
map.attributionControl.setPrefix(false);
leaflet.control.scale({ imperial: false }).addTo(map);

if (root.dataset.tiles) {
  leaflet
    .tileLayer(root.dataset.tiles, { attribution: plain(root.dataset.tilesBy).innerHTML, maxZoom: 19 })
    .addTo(map);
}
draw();
fetch(root.dataset.coast)
  .then(found => found.json())
  .then(coast);

// TopoJSON: each arc is a line of differences between quantised places; every border is there once.
function coast(topology) {
  const [scale, shift] = [topology.transform.scale, topology.transform.translate];
  const lines = topology.arcs.map(arc => {
    let [x, y] = [0, 0];
    return arc.map(([right, up]) => {
      x += right;
      y += up;
      return [y * scale[1] + shift[1], x * scale[0] + shift[0]];
    });
  });
  leaflet
    .polyline(lines, {
      className: "coast",
      weight: 1,
      interactive: false,
      smoothFactor: 0.5,
      attribution: "Natural Earth",
    })
    .addTo(map)
    .bringToBack();
}

function draw() {
  const seen = leaflet.featureGroup().addTo(map);
  const receivers = new Map();
  for (const answer of answers) for (const one of answer.receivers) receivers.set(one.receiver, one);
  for (const one of receivers.values()) {
    const marker = leaflet
      .circleMarker([one.latitude, one.longitude], mark("receiver", 5))
      .bindTooltip(plain(one.receiver), { permanent: receivers.size <= 15, direction: "right" })
      .addTo(seen);
    if (receivers.size > 15) continue;
    labelled.push(marker);
    marker.on("mouseover mouseout", event =>
      marker
        .getTooltip()
        .getElement()
        .classList.toggle("pointed", event.type === "mouseover"),
    );
  }
  answers.forEach(answer => show(answer, seen));
  const bounds = seen.getBounds();
  if (bounds.isValid()) map.fitBounds(bounds.pad(0.15));
  else map.setView([30, 0], 2);
  map.on("zoomend", placeLabels);
  placeLabels();
  document.querySelectorAll("tr[data-answer]").forEach(row => {
    const answer = answers[row.dataset.answer];
    if (answer.position) row.querySelector("b").addEventListener("click", () => close(answer));
  });
}

// Receivers may stand near each other: a name goes to a side where it covers no other, or waits to be pointed at.
function placeLabels() {
  const taken = labelled.map(marker => around(map.latLngToLayerPoint(marker.getLatLng()), 5));
  labelled.forEach((marker, index) => {
    const tooltip = marker.getTooltip(),
      element = tooltip.getElement();
    const others = taken.filter((_, number) => number !== index);
    const [side, place] = Object.entries(sides(marker, element)).find(([, one]) =>
      others.every(other => apart(one, other)),
    ) ?? ["right", null];
    tooltip.options.direction = side;
    tooltip.update();
    element.classList.toggle("covered", !place);
    if (place) taken.push(place);
  });
}

function sides(marker, { offsetWidth: width, offsetHeight: height }) {
  const { x, y } = map.latLngToLayerPoint(marker.getLatLng());
  const box = (left, top) => ({ left, top, right: left + width, bottom: top + height });
  return {
    right: box(x + LABEL_GAP, y - height / 2),
    left: box(x - LABEL_GAP - width, y - height / 2),
    top: box(x - width / 2, y - LABEL_GAP - height),
    bottom: box(x - width / 2, y + LABEL_GAP),
  };
}

function around({ x, y }, radius) {
  return { left: x - radius, top: y - radius, right: x + radius, bottom: y + radius };
}

function apart(one, other) {
  return (
    one.right <= other.left || other.right <= one.left || one.bottom <= other.top || other.bottom <= one.top
  );
}

function show(answer, seen) {
  for (const one of answer.ellipses) {
    const ring = one.ring.map(([longitude, latitude]) => [latitude, longitude]);
    leaflet
      .polygon(ring, { className: `by-${answer.by}`, weight: 1.5, fillOpacity: 0.1, interactive: false })
      .addTo(seen);
  }
  for (const other of answer.others) {
    leaflet
      .circleMarker([other.latitude, other.longitude], mark("other", 6))
      .bindPopup(plain(`${answer.transmission}: another place that explains the arrivals`))
      .addTo(seen);
  }
  if (!answer.position) return;
  const { latitude, longitude } = answer.position;
  leaflet
    .circleMarker([latitude, longitude], mark(`by-${answer.by}`, 4))
    .bindPopup(about(answer))
    .addTo(seen);
}

function mark(className, radius) {
  return { className, radius, weight: 2, fillOpacity: 1 };
}

function close(answer) {
  const ring = answer.ellipses.at(-1).ring.map(([longitude, latitude]) => [latitude, longitude]);
  map.fitBounds(leaflet.latLngBounds(ring).pad(1), { maxZoom: 16 });
  root.scrollIntoView({ block: "center" });
}

function about(answer) {
  const found = document.createElement("div");
  const { latitude, longitude } = answer.position;
  const large = answer.ellipses.at(-1);
  const lines = [
    `${latitude.toFixed(5)}, ${longitude.toFixed(5)}`,
    `95 % within ${Math.round(large.semi_major_m)} by ${Math.round(large.semi_minor_m)} m, by the ${answer.by}`,
    ...answer.notes,
  ];
  const name = document.createElement("b");
  name.textContent = answer.transmission;
  found.append(name, ...lines.flatMap(line => [document.createElement("br"), line]));
  return found;
}

// Names come from people, and leaflet takes a string for HTML.
function plain(value) {
  const found = document.createElement("span");
  found.textContent = value;
  return found;
}
