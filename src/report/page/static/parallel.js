// Parallel coordinates: a canvas for the lines, buttons for the values, a brush on the last axis.

const SPREAD = 24; // pixels
const EDGE = { left: 14, right: 110, top: 40, bottom: 18 };
let brush = null; // start of a drag on the last axis

function drawParallel(target, rows) {
  const axes = [...varied.map(settingAxis), measureAxis()];
  target.style.minWidth = `${Math.max(736, 104 * axes.length)}px`;
  const size = { width: target.clientWidth, height: target.clientHeight };
  axes.forEach((one, place) => {
    one.x = EDGE.left + (place * (size.width - EDGE.left - EDGE.right)) / Math.max(1, axes.length - 1);
  });
  const focused = target.querySelector(":focus")?.dataset.level; // the buttons are recreated
  target.replaceChildren(...parallelParts(axes, size));
  if (focused) target.querySelector(`[data-level="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  target.setAttribute("aria-label", `${rows.length} runs across ${axes.length} axes`);
  paintLines(target.querySelector("canvas"), axes, size, rows);
}

function settingAxis(setting) {
  const spread = setting.is_continuous ? numberSpread(columns[setting.name], true) : null;
  const last = setting.labels.length - 1;
  return {
    name: setting.name, title: setting.title, labels: setting.labels, is_continuous: setting.is_continuous, spread,
    at: (row) => spread ? spread(columns[setting.name][row]) : last ? columns[setting.name][row] / last : 0.5,
  };
}

function measureAxis() {
  const measure = measureOf[view.measure];
  const spread = numberSpread(columns[measure.name]);
  return { name: measure.name, title: measure.title, measure, spread, at: (row) => spread(columns[measure.name][row]) };
}

/** From a value to its place between the lowest, 0, and the highest, 1. */
function numberSpread(values, mayBeLog = false) {
  const there = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...there), Math.max(...there)];
  const log = mayBeLog && low > 0 && high / low > 100; // for example learning rates of a search
  const on = (value) => (log ? Math.log(value) : value);
  const spread = (value) =>
    value === null ? null : high > low ? (on(value) - on(low)) / (on(high) - on(low)) : 0.5;
  return Object.assign(spread, { low, high });
}

function heightAt(place, size) {
  return size.height - EDGE.bottom - place * (size.height - EDGE.top - EDGE.bottom);
}

function parallelParts(axes, size) {
  const parts = [element("canvas", { "aria-hidden": "true" })];
  const room = axes.length > 1 ? axes[1].x - axes[0].x - 4 : size.width;
  axes.forEach((one, number) => {
    const title = element("span", { class: "title", title: one.title, style: { left: `${one.x}px`, "max-width": `${room}px` } }, one.title);
    if (number === 0) setStyles(title, { transform: "none", left: "0px" });
    if (number === axes.length - 1) setStyles(title, { transform: "none", left: "auto", right: "0px", "max-width": "none" });
    parts.push(title);
    if (one.spread) parts.push(...ends(one, size));
    else one.labels.forEach((label, place) => parts.push(levelButton(one, label, place, size)));
  });
  return parts;
}

function ends(one, size) {
  const kind = one.measure ? one.measure.kind : "number";
  return [[0, one.spread.low], [1, one.spread.high]].map(([place, value]) =>
    element("span", { class: "end", style: { left: `${one.x}px`, top: `${heightAt(place, size)}px` } },
      kind === "share" ? `${(100 * value).toFixed(1)}%` : written(value, kind)));
}

function levelButton(one, label, place, size) {
  const chosen = (view.levels[one.name] ?? []).includes(place);
  const at = one.labels.length > 1 ? place / (one.labels.length - 1) : 0.5;
  return element("button", {
    type: "button", "aria-pressed": String(chosen), "aria-label": `${one.title} ${label}`,
    "data-level": `${one.name} ${place}`,
    style: { left: `${one.x}px`, top: `${heightAt(at, size)}px` },
    onclick: () => toggleLevel(one.name, place),
  }, label);
}

function paintLines(canvas, axes, size, rows) {
  const scale = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [size.width * scale, size.height * scale];
  const paper = canvas.getContext("2d");
  paper.scale(scale, scale);
  const shown = new Set(rows);
  const dense = Math.max(0.16, Math.min(0.75, 60 / Math.max(1, rows.length)));
  const hidden = Array.from({ length: count }, (_, row) => row).filter((row) => !shown.has(row));
  strokeRows(paper, axes, size, hidden, () => colour("faint"), 0.18);
  const ofModel = Object.fromEntries(data.models.map((model) => [model, modelColour(model)]));
  strokeRows(paper, axes, size, rows, (row) => ofModel[models[row]], dense);
  if (shown.has(rowOf.get(view.open))) {
    strokeRows(paper, axes, size, [rowOf.get(view.open)], () => colour("ink"), 1, 2.5);
  }
  paper.globalAlpha = 1;
  paper.strokeStyle = colour("quiet");
  paper.lineWidth = 1;
  for (const one of axes) {
    paper.beginPath();
    paper.moveTo(one.x, EDGE.top - 8);
    paper.lineTo(one.x, size.height - EDGE.bottom + 8);
    paper.stroke();
  }
  paintBrush(paper, axes.at(-1), size);
}

function strokeRows(paper, axes, size, rows, colourOf, alpha, width = 1.1) {
  paper.globalAlpha = alpha;
  paper.lineWidth = width;
  let before = null;
  for (const row of rows) {
    const here = colourOf === before ? before : colourOf(row);
    if (here !== before) { paper.strokeStyle = here; before = here; }
    const apart = sideways(row);
    paper.beginPath();
    let from = null;
    for (const one of axes) {
      const place = one.at(row);
      if (place === null) { from = null; continue; }
      const y = heightAt(place, size) + (one.spread ? 0 : apart);
      if (from) paper.bezierCurveTo((from.x + one.x) / 2, from.y, (from.x + one.x) / 2, y, one.x, y);
      else paper.moveTo(one.x, y);
      from = { x: one.x, y };
    }
    paper.stroke();
  }
}

/** Runs that share a value lie side by side, by architecture. */
function sideways(row) {
  const place = data.models.indexOf(models[row]) + ((row * 0.618034) % 1);
  return SPREAD * (place / data.models.length - 0.5);
}

function paintBrush(paper, last, size) {
  const range = view.ranges[last.name];
  if (!range) return;
  const [low, high] = [range[0] ?? last.spread.low, range[1] ?? last.spread.high].map((value) =>
    heightAt(Math.min(1, Math.max(0, last.spread(value))), size));
  paper.globalAlpha = 0.3;
  paper.fillStyle = colour("accent");
  paper.fillRect(last.x - 7, high, 14, Math.max(2, low - high));
}

function brushable(target) {
  const place = (event) => {
    const box = target.getBoundingClientRect();
    const inner = box.height - EDGE.top - EDGE.bottom;
    return Math.min(1, Math.max(0, (box.bottom - EDGE.bottom - event.clientY) / inner));
  };
  target.addEventListener("pointerdown", (event) => {
    const box = target.getBoundingClientRect();
    if (event.target.tagName !== "BUTTON" && event.clientX > box.right - EDGE.right - 18) {
      brush = place(event);
      event.preventDefault();
    }
  });
  window.addEventListener("pointerup", (event) => {
    if (brush === null) return;
    const [low, high] = [brush, place(event)].sort((a, b) => a - b);
    brush = null;
    const spread = measureAxis().spread;
    const value = (part) => Number((spread.low + part * (spread.high - spread.low)).toPrecision(4));
    const range = [low < 0.02 ? null : value(low), high > 0.98 ? null : value(high)];
    setRange(view.measure, high - low < 0.01 ? [null, null] : range);
  });
}
