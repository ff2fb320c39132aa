// What is drawn of lines: places on the axis, smoothing, and the range that most values lie in. No drawing here.
// A line: { label, color, dash, dots, steps, times, means, lows, highs, perEpoch, begun, span, marks, checkpoints }.
const FORGOTTEN = 1e-9;
const POINTS_OF_A_JOB = 400; // smoothing counts in this part of a job's steps, however far one has zoomed
const EDGE = 0.01; // of the values at each end lie outside the usual range

// A moving average over steps: a value that lies `unit` steps back weighs `weight` times less. It begins at the first
// value, and knows distances, so that a thinner or denser choice of points gives the same curve.
export function smooth(values, steps, weight, unit) {
  if (!weight) return values;
  let sum = 0,
    share = 0,
    last = null;
  return values.map((value, index) => {
    if (value == null) return value;
    const kept = last == null ? 0 : weight ** ((steps[index] - last) / unit);
    last = steps[index];
    sum = kept * sum + (1 - weight) * value;
    share = kept * share + (1 - weight);
    return share > FORGOTTEN ? sum / share : value;
  });
}

export const smoothingUnit = line => Math.max((line.span || 0) / POINTS_OF_A_JOB, 1);

// How many steps before a range its smoothing has to begin, so that it is there as it is in the whole curve.
export const lead = (line, weight) =>
  weight ? Math.ceil((smoothingUnit(line) * Math.log(0.01)) / Math.log(weight)) : 0;

// The place of a step on the axis; null where that is not known.
export function place(line, step, x, at) {
  if (x === "step") return step;
  if (x === "epoch") return line.perEpoch ? step / line.perEpoch : null;
  const time = at ?? timeOf(line, step);
  return time == null ? null : time - (x === "elapsed" ? line.begun : 0);
}

function timeOf(line, step) {
  const { steps, times } = line,
    last = steps.length - 1;
  if (last < 0) return null;
  let low = 0,
    high = last;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle + 1;
    else high = middle;
  }
  return times[low];
}

// The step that stands at a place of the axis.
export function stepAt(line, value, x) {
  if (x === "step") return Math.round(value);
  if (x === "epoch") return Math.round(value * line.perEpoch);
  const wanted = value + (x === "elapsed" ? line.begun : 0);
  let found = 0;
  while (found < line.steps.length - 1 && line.times[found] < wanted) found++;
  return line.steps[found] ?? 0;
}

// Whether a line's values are joined over the steps without one: those of an epoch, and those that are logged now and
// then, which stand alone. Where most have a neighbour, a gap is a value that is missing, and stays one.
export function isJoined(line) {
  const known = line.means.filter(value => value != null).length;
  const beside = line.means.filter((value, index) => value != null && line.means[index - 1] != null).length;
  return Boolean(line.dots) || 2 * beside < known;
}

// The lowest and highest of the values without the outermost hundredth at each end; null where there are none.
export function usualRange(values) {
  const known = values
    .filter(value => value != null && Number.isFinite(value))
    .sort((one, other) => one - other);
  if (!known.length) return null;
  const at = share => known[Math.round(share * (known.length - 1))];
  return [at(EDGE), at(1 - EDGE)];
}

export const countNotPositive = lines =>
  lines.reduce((sum, line) => sum + line.means.filter(value => value != null && value <= 0).length, 0);
