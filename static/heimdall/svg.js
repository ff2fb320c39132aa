// Drawing: elements by name, and numbers that read well on an axis.
const SPACE = "http://www.w3.org/2000/svg";

export function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) if (value != null) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value != null) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// 1, 2 or 5 times a power of ten, not above the value.
export function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value)),
    head = value / power;
  return power * (head >= 5 ? 5 : head >= 2 ? 2 : 1);
}

// Ticks of a linear axis, about so many.
export function ticks(low, high, many = 5) {
  const step = nice((high - low) / many) || 1,
    found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step)
    found.push(+at.toPrecision(12));
  return found;
}

export function decades(low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power++)
    found.push(10 ** power);
  return found;
}

export const short = value =>
  value == null || !Number.isFinite(value)
    ? "\u2013"
    : Math.abs(value) >= 100
      ? Math.round(value).toLocaleString("en-US")
      : String(+value.toPrecision(2));

export function metres(value) {
  if (value == null || !Number.isFinite(value)) return "\u2013";
  return value >= 1000
    ? `${+(value / 1000).toPrecision(3)} km`
    : `${value >= 100 ? Math.round(value) : +value.toPrecision(2)} m`;
}

const pixels = new WeakMap();
// Draw now, and again when the place gets another size. The drawing gets the width in pixels.
export function whenSized(place, drawing) {
  let last = 0;
  pixels.get(place)?.disconnect();
  const observer = new ResizeObserver(() => {
    const width = Math.round(place.clientWidth);
    if (width > 40 && width !== last) {
      last = width;
      drawing(width);
    }
  });
  pixels.set(place, observer);
  observer.observe(place);
}
