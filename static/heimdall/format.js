// How numbers and times are written. templatetags/heimdall.py writes the same way.
const NOTHING = "\u2013";
const grouped = value => value.toLocaleString("en-US");

export const count = value => (value == null ? NOTHING : grouped(value));
export const of = value => (value == null ? "" : " of " + grouped(value));
export const epoch = value => (value == null ? "" : ", epoch " + grouped(value));
export const percent = value =>
  value == null ? NOTHING : (Math.floor(value * 10 + 1e-6) / 10).toFixed(1) + " %";
export const loss = value => digits(value, true);
export const number = value => digits(value, false);

export function duration(seconds) {
  if (seconds == null) return NOTHING;
  const total = Math.round(seconds),
    pad = value => String(value).padStart(2, "0");
  if (total < 60) return `${total} s`;
  if (total < 600) return `${Math.floor(total / 60)} min ${pad(total % 60)} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min`;
  if (total < 86400) return `${Math.floor(total / 3600)} h ${pad(Math.floor((total % 3600) / 60))} min`;
  return `${Math.floor(total / 86400)} d ${Math.floor((total % 86400) / 3600)} h`;
}

export function ago(moment) {
  const seconds = Math.round((Date.now() - moment) / 1000);
  if (seconds < -5) return `in ${duration(-seconds)}`;
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  if (seconds < 30 * 86400) return `${Math.floor(seconds / 86400)} d ago`;
  return new Date(moment).toLocaleDateString();
}

function digits(value, keepZeros) {
  if (typeof value !== "number") return value == null ? NOTHING : String(value);
  const size = Math.abs(value),
    trim = text => text.replace(/\.?0+$/, "");
  if (value && (size < 1e-3 || size >= 1e6)) {
    const [head, exponent] = value.toExponential(3).split("e");
    return (keepZeros ? head : trim(head)) + "e" + Number(exponent);
  }
  if (Number.isInteger(value) && !keepZeros) return grouped(value);
  const whole = value ? Math.floor(Math.log10(size)) + 1 : 1;
  const text = value.toFixed(Math.max(4 - whole, 0));
  return keepZeros || !text.includes(".") ? text : trim(text);
}
