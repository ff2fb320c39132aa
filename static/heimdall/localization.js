// What the localization recipes show: a dataset's transmitters, and what a trained network makes of them.
import { around, PlaneMap } from "./map.js";
import { calibration, distribution, histogram } from "./plots.js";
import { draw, make, metres } from "./svg.js";

const FACTORS = [1, 5, 20, 50, 100, 500];
const gaussian = share => -2 * Math.log(1 - share); // how far, squared, the ellipse of a Gaussian reaches
const PERFECT = 0.83; // median error over the root mean square bound, for circular errors

function card(id, title, ...more) {
  const heading = make("h2", { id: `${id}-title` }, title);
  return make(
    "section",
    { class: "card", "aria-labelledby": `${id}-title`, id },
    make("header", {}, heading),
    ...more,
  );
}

function keys(...entries) {
  return make(
    "div",
    { class: "legend map-legend" },
    ...entries.map(([kind, text]) => make("span", {}, make("i", { class: `key ${kind}` }), text)),
  );
}

// A dataset: where the transmitters stand and how well each could be located at best.
export function rf_dataset(root) {
  const map = make("div", { class: "map" }),
    legend = make("div", {}),
    plots = make("div", { class: "plots" });
  const about = make("p", { class: "soft small map-note" });
  const shown = card("map", "Transmitter positions", map, legend, about);
  root.replaceChildren(shown, card("histograms", "Received signals", plots));
  let plane = null;
  return content => {
    const { centre, receivers, examples, histograms, samples } = content;
    plane ||= new PlaneMap(map, {
      centre,
      label: `Map of ${receivers.length} receivers and ${examples.length} transmitters`,
    });
    const bounds = examples.map(row => row[3]).sort((one, other) => one - other);
    const limits = [0.25, 0.5, 0.75].map(
      share => +(bounds[Math.floor(share * bounds.length)] ?? 0).toPrecision(2),
    );
    const class_of = bound => limits.filter(limit => bound > limit).length;
    plane.show(around([...receivers.map(row => row.slice(1)), ...examples]), now => [
      draw(
        "g",
        { class: "samples" },
        ...examples.map(([east, north, heard, bound]) => {
          const [cx, cy] = now.at(east, north);
          return draw(
            "circle",
            { class: `level level-${class_of(bound)}`, cx, cy, r: 3.4 },
            draw("title", {}, `${heard} receivers hear it; at best it is located to ${metres(bound)}`),
          );
        }),
      ),
      now.receivers(receivers),
    ]);
    const ranges = [`to ${metres(limits[0])}`, `to ${metres(limits[1])}`, `to ${metres(limits[2])}`, "worse"];
    legend.replaceChildren(
      keys(["receiver", "receiver"], ...ranges.map((text, index) => [`level level-${index}`, text])),
    );
    about.textContent =
      `The first ${examples.length} of ${samples.toLocaleString("en-US")} samples. ` +
      (content.networks === "random" ? "Each lies round the centre of its own network. " : "") +
      "Colors: the Cramer-Rao bound, which no estimator beats on average.";
    const wanted = [
      ["distance_km", "distance to who hears it", "km"],
      ["snr_db", "signal to noise ratio", "dB"],
      ["dilution", "dilution of precision", ""],
      ["bound_m", "bound of the position error", "m"],
      ["heard_by", "receivers that hear it", ""],
    ];
    const places = wanted.filter(([name]) => histograms[name]);
    while (plots.children.length < places.length) plots.append(make("div", { class: "plot-place" }));
    places.forEach(([name, title, unit], index) =>
      histogram(plots.children[index], histograms[name], title, unit),
    );
  };
}

// A training: true and estimated positions of some validation samples, the errors beside the bound, the calibration.
export function localization(root) {
  const map = make("div", { class: "map" }),
    note = make("p", { class: "soft small map-note", role: "status" });
  const factor = make("select", { id: "error-factor" }),
    auto = { on: true };
  const label = make("label", { class: "check", for: "error-factor" }, "Errors drawn", factor);
  for (const times of FACTORS)
    factor.append(make("option", { value: times }, times === 1 ? "as they are" : `${times} times larger`));
  const mapCard = card(
    "map",
    "True and estimated positions",
    map,
    keys(
      ["receiver", "receiver"],
      ["truth", "true position"],
      ["estimate", "estimate, ellipse of 68 %"],
      ["outside", "truth outside the ellipse of 95 %"],
    ),
    note,
  );
  mapCard.firstChild.append(label);
  const errors = make("div", { class: "plot-place" }),
    stated = make("div", { class: "plot-place" }),
    table = make("div", { class: "scroll" });
  const errorCard = card("errors", "Position errors", errors, make("div", {}), table),
    statedCard = card("calibration", "Calibration of the ellipses", stated);
  const epoch = make("span", { class: "soft small" });
  errorCard.firstChild.append(epoch);
  const calibrated = make("p", { class: "soft small map-note" }),
    whoseLines = make("div", {});
  statedCard.append(whoseLines, calibrated);
  root.replaceChildren(mapCard, make("div", { class: "pair" }, errorCard, statedCard));
  let plane = null,
    last = null;
  factor.addEventListener("change", () => {
    auto.on = false;
    place(last);
  });

  function place(content) {
    const { receivers, samples } = content,
      times = Number(factor.value);
    const sizes = new Map(content.ellipses ?? []),
      reaches = {
        in68: sizes.get(0.68) ?? gaussian(0.68),
        in95: sizes.get(0.95) ?? gaussian(0.95),
      };
    const rows = samples.filter(row => row.every(value => value != null));
    plane.show(around([...receivers.map(row => row.slice(1)), ...rows]), now => [
      draw("g", { class: "located" }, ...rows.map(row => located(now, row, times, reaches))),
      now.receivers(receivers),
    ]);
    const said =
      times === 1
        ? "Errors and ellipses are drawn in the scale of the map: zoom in to see them."
        : `Errors and ellipses are drawn ${times} times larger than they are.`;
    const of = content.count.toLocaleString("en-US");
    const drawn = content.networks === "random" ? " Each lies round the centre of its own network." : "";
    note.textContent = `${rows.length} of ${of} validation samples. ${said}${drawn} Point at one to read it.`;
  }

  return (content, { epoch: number }) => {
    last = content;
    plane ||= new PlaneMap(map, {
      centre: content.centre,
      label: "Map of receivers, true and estimated positions with error ellipses",
    });
    const at = (values, share) => values[content.percentiles.indexOf(share)];
    if (auto.on) factor.value = FACTORS.findLast(times => at(content.errors_m, 50) * times <= 2000) ?? 1;
    place(content);
    epoch.textContent = `epoch ${number}`;
    const curves = [
      ["bound", "bound", content.bounds_m],
      ["network", "main", content.errors_m],
    ];
    if (content.unrefined_m) curves.unshift(["network, unrefined", "other", content.unrefined_m]);
    distribution(errors, content.percentiles, curves);
    errorCard.children[2].replaceChildren(
      keys(
        ["line main", "network"],
        ...(content.unrefined_m ? [["line other", "before its refinement"]] : []),
        ["line bound", "Cramer-Rao bound"],
      ),
    );
    const line = (name, share) => {
      const error = at(content.errors_m, share),
        bound = at(content.bounds_m, share);
      return make(
        "tr",
        {},
        make("th", { scope: "row" }, name),
        ...[metres(error), metres(bound), error == null ? "\u2013" : (error / bound).toFixed(2)].map(text =>
          make("td", { class: "num" }, text),
        ),
      );
    };
    table.replaceChildren(
      make(
        "table",
        {},
        make(
          "thead",
          {},
          make(
            "tr",
            {},
            ...["Of the samples", "Error below", "Bound below", "Ratio"].map((text, index) =>
              make("th", { scope: "col", class: index ? "num" : null }, text),
            ),
          ),
        ),
        make("tbody", {}, line("50 %", 50), line("68 %", 68), line("95 %", 95)),
      ),
      make(
        "p",
        { class: "soft small map-note" },
        `A perfect estimator has a ratio of about ${PERFECT} at 50 %.` +
          (content.late_arrivals ? " Late arrivals are on; the bound is the one without them." : ""),
      ),
    );
    const isCalibrated = content.calibrated_on > 0;
    calibration(stated, content.calibration, isCalibrated ? content.stated : null);
    whoseLines.replaceChildren(
      ...(isCalibrated
        ? [keys(["line main", "ellipses as drawn"], ["line other", "as the network states them"])]
        : []),
    );
    const found = (rows, share) =>
      `${(100 * (rows.find(([stated]) => stated === share)?.[1] ?? NaN)).toFixed(1)} %`;
    const shares = rows =>
      `${found(rows, 0.68)} of the true positions, those of 95 % hold ${found(rows, 0.95)}`;
    const whose = isCalibrated
      ? " They are as large as the validation samples ask for, and each half of these is counted with the sizes " +
        "that the other half gives. As large as the network itself states, they would hold " +
        `${found(content.stated, 0.68)} and ${found(content.stated, 0.95)}.`
      : " They are as large as the network itself states.";
    calibrated.textContent =
      `The ellipses of 68 % hold ${shares(content.calibration)}.${whose} ` +
      "The band is 3 points wide to each side.";
  };
}

// One sample: the truth, the estimate with its error drawn so many times larger, the line between, and the ellipse.
function located(now, [trueEast, trueNorth, east, north, a, b, c, bound, own68, own95], times, over_all) {
  const in68 = Math.sqrt(own68 ?? over_all.in68),
    in95 = own95 ?? over_all.in95;
  const right = east - trueEast,
    up = north - trueNorth,
    [x, y] = now.at(trueEast, trueNorth);
  const [cx, cy] = now.at(trueEast + times * right, trueNorth + times * up);
  if (!now.sees([x, y], 400) && !now.sees([cx, cy], 400)) return draw("g");
  const middle = (a + c) / 2,
    spread = Math.hypot((a - c) / 2, b),
    half = value => in68 * Math.sqrt(Math.max(value, 0));
  const long = half(middle + spread),
    short = half(middle - spread),
    turn = ((-Math.atan2(2 * b, a - c) / 2) * 180) / Math.PI;
  const distance = (c * right * right - 2 * b * right * up + a * up * up) / (a * c - b * b),
    outside = !(distance <= in95);
  const size = `${metres(1000 * long)} by ${metres(1000 * short)}`;
  const error = metres(1000 * Math.hypot(right, up));
  const text = `error ${error}, bound ${metres(bound)}; ellipse of 68 %: ${size}`;
  const group = draw("g", { class: outside ? "outside" : "inside" }, draw("title", {}, text));
  const [rx, ry] = [long * times * now.k, short * times * now.k];
  if (rx < 4000)
    group.append(
      draw("ellipse", {
        cx,
        cy,
        rx: Math.max(rx, 0.4),
        ry: Math.max(ry, 0.4),
        transform: `rotate(${turn.toFixed(2)} ${cx.toFixed(2)} ${cy.toFixed(2)})`,
      }),
    );
  group.append(
    draw("line", { x1: x, y1: y, x2: cx, y2: cy }),
    draw("circle", { class: "truth", cx: x, cy: y, r: 2.6 }),
    draw("circle", { class: "estimate", cx, cy, r: 1.9 }),
  );
  return group;
}
