// Formatting of values, and colours of the theme.

const DASH = "\u2013";

function written(value, kind) {
  if (value === null || value === undefined) return DASH;
  if (kind === "share") return `${(100 * value).toFixed(2)}%`;
  if (kind === "loss") return value.toFixed(4);
  if (kind === "seconds") return duration(value);
  if (kind === "count") return Math.round(value).toLocaleString("en");
  return typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value);
}

function duration(seconds) {
  if (seconds < 100) return `${seconds.toFixed(0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

/** The colour that a custom property stands for in the theme of now, as rgb(). */
function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

function modelColour(model) {
  return colour(`model-${data.models.indexOf(model) % 8}`);
}

/** The same colour, nearer to the ink or to the page: runs of one architecture side by side. */
function shade(rgb, part) {
  const toward = colour(part < 0 ? "ink" : "card");
  const [a, b] = [rgb, toward].map((text) => text.match(/[\d.]+/g).map(Number));
  return `rgb(${[0, 1, 2].map((i) => Math.round(a[i] + (b[i] - a[i]) * Math.abs(part))).join(",")})`;
}
