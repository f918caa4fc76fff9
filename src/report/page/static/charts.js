// Main effects, pairs, importance, validation against test, learning curves.

/** The rows that means are of: those of a sweep, not single runs beside one, such as recipes. */
function ofSweep(rows) {
  return rows.filter((row) => columns.in_sweep[row]);
}

const sweepRows = ofSweep(columns.key.map((_, row) => row));

/** Settings with few enough values to average over, which vary within a sweep. */
const averagedOver = varied.filter((one) => !one.is_continuous && one.name !== "Modelname" && variesInSweep(one));

/** Their labels that occur in a sweep, by name. */
const sweepLabels = Object.fromEntries(averagedOver.map(({ name, labels }) => {
  const there = new Set(sweepRows.map((row) => columns[name][row]));
  return [name, labels.filter((_, place) => there.has(place))];
}));

/** Whether two runs of one architecture's sweep differ in a setting that both have. */
function variesInSweep({ name, unset }) {
  const first = new Map();
  return sweepRows.some((row) => {
    const place = columns[name][row];
    if (place === unset) return false;
    if (!first.has(models[row])) first.set(models[row], place);
    return first.get(models[row]) !== place;
  });
}

function shownModels(rows) {
  const there = new Set(rows.map((row) => models[row]));
  return data.models.filter((model) => there.has(model));
}

/** By setting, architecture and level: the mean, the best and the number of runs. */
function mainEffects(rows) {
  const averagedRows = ofSweep(rows);
  return averagedOver.map((setting) => ({
    setting,
    lines: shownModels(averagedRows).map((model) => {
      const groups = grouped(averagedRows.filter((row) => models[row] === model), setting.name);
      const levels = [...groups.keys()].sort((a, b) => a - b);
      return {
        model,
        labels: levels.map((place) => setting.labels[place]),
        points: levels.map((place) => averaged(groups.get(place), view.measure)),
      };
    }),
  }));
}

const effectsAcross = ({ clientWidth }) => Math.min(averagedOver.length, clientWidth < 640 ? 2 : clientWidth < 1000 ? 3 : 5);
const effectsDown = (target) => Math.ceil(averagedOver.length / effectsAcross(target));

function whyNoMeans(rows, needed) {
  if (!rows.length) return "No run to show.";
  return ofSweep(rows).length ? `Needs ${needed} in which runs of a sweep differ.` : "No run shown is part of a sweep.";
}

function heightOfMainEffects(target, rows) {
  return ofSweep(rows).length && averagedOver.length ? 60 + 235 * effectsDown(target) : 0;
}

function drawMainEffects(target, rows) {
  if (!heightOfMainEffects(target, rows)) return empty(target, whyNoMeans(rows, "a setting"));
  const effects = mainEffects(rows);
  const [across, down] = [effectsAcross(target), effectsDown(target)];
  const measure = measureOf[view.measure];
  const layout = {
    grid: { rows: down, columns: across, pattern: "independent", xgap: 0.1, ygap: 0.42 },
    margin: { l: 52, r: 8, t: 62, b: 40 }, annotations: [],
    showlegend: true, legend: { orientation: "h", x: 0, y: 1, yref: "container", yanchor: "top" },
  };
  const traces = [];
  effects.forEach(({ setting, lines }, place) => {
    const number = place ? place + 1 : "";
    layout[`xaxis${number}`] = axis({
      type: "category", categoryorder: "array", categoryarray: sweepLabels[setting.name],
      tickvals: sweepLabels[setting.name], range: [-0.4, sweepLabels[setting.name].length - 0.6],
    });
    layout[`yaxis${number}`] = axis({ ...percentAxis(measure.kind), ...(place ? { matches: "y" } : {}),
      showticklabels: place % across === 0 });
    layout.annotations.push({
      text: `<b>${safe(setting.title)}</b>`, showarrow: false, xref: `x${number} domain`, yref: `y${number} domain`,
      x: 0, y: 1.04, xanchor: "left", yanchor: "bottom",
    });
    for (const line of lines) traces.push(...effectTraces(line, number, measure, place === 0));
  });
  plot(cleared(target), traces, layout, `Main effects on the ${measure.title}`);
}

function effectTraces({ model, labels, points }, number, measure, inLegend) {
  const common = {
    x: labels, xaxis: `x${number}`, yaxis: `y${number}`, type: "scatter", name: safe(model), legendgroup: model,
  };
  const texts = points.map((one) =>
    `${safe(model)}, ${one.n} runs<br>mean ${written(one.mean, measure.kind)}<br>best ${written(one.best, measure.kind)}`);
  return [
    { ...common, y: points.map((one) => one.mean), mode: "lines+markers", showlegend: inLegend,
      line: { color: modelColour(model), width: 2 }, marker: { size: 6 }, text: texts, hoverinfo: "text+x" },
    { ...common, y: points.map((one) => one.best), mode: "markers", showlegend: false, hoverinfo: "skip",
      marker: { size: 8, symbol: "line-ew-open", color: modelColour(model), line: { width: 2 } } },
  ];
}

/** Means over runs by two settings: one matrix for each architecture. */
function pairs(rows, across, down) {
  const placesOf = (setting) => sweepLabels[setting.name].map((label) => setting.labels.indexOf(label));
  return shownModels(ofSweep(rows)).map((model) => {
    const groups = grouped(ofSweep(rows).filter((row) => models[row] === model), down.name);
    return {
      model,
      cells: placesOf(down).map((y) => {
        const cells = grouped(groups.get(y) ?? [], across.name);
        return placesOf(across).map((x) => averaged(cells.get(x) ?? [], view.measure));
      }),
    };
  });
}

const pairsAcross = ({ clientWidth }, matrices) => (clientWidth < 640 ? 1 : Math.min(matrices, 3));
const pairsDown = (target, matrices) => Math.ceil(matrices / pairsAcross(target, matrices));

function heightOfPairs(target, rows) {
  if (!ofSweep(rows).length || averagedOver.length < 2) return 0;
  const lines = sweepLabels[view.pair[1]].length;
  return pairsDown(target, shownModels(ofSweep(rows)).length) * (110 + 46 * Math.max(lines, 3));
}

function drawPairs(target, rows) {
  if (!heightOfPairs(target, rows)) return empty(target, whyNoMeans(rows, "two settings"));
  const [across, down] = view.pair.map((name) => settingOf[name]);
  const found = pairs(rows, across, down);
  const [columnsOf, rowsOf] = [pairsAcross(target, found.length), pairsDown(target, found.length)];
  const measure = measureOf[view.measure];
  const means = found.flatMap((one) => one.cells.flat().map((cell) => cell.mean)).filter((x) => x !== null);
  const layout = {
    annotations: [],
    grid: { rows: rowsOf, columns: columnsOf, pattern: "independent", xgap: 0.16, ygap: 0.4 },
    margin: { l: 78, r: 8, t: 34, b: 50 },
    coloraxis: {
      colorscale: [0, 1, 2, 3, 4].map((step) => [step / 4, colour(`map-${step}`)]), showscale: false,
      cmin: Math.min(...means), cmax: Math.max(...means),
    },
  };
  const traces = found.map(({ model, cells }, place) => {
    const number = place ? place + 1 : "";
    layout[`xaxis${number}`] = axis({ type: "category", showgrid: false, title: { text: safe(across.title) } });
    layout[`yaxis${number}`] = axis({ type: "category", showgrid: false, autorange: "reversed",
      title: { text: place % columnsOf ? "" : safe(down.title) } });
    layout.annotations.push({
      text: `<b>${safe(model)}</b>`, showarrow: false, font: { color: modelColour(model) },
      xref: `x${number} domain`, yref: `y${number} domain`, x: 0, y: 1.02, xanchor: "left", yanchor: "bottom",
    });
    return {
      type: "heatmap", coloraxis: "coloraxis", xaxis: `x${number}`, yaxis: `y${number}`, xgap: 2, ygap: 2,
      x: sweepLabels[across.name], y: sweepLabels[down.name], z: cells.map((line) => line.map((cell) => cell.mean)),
      text: cells.map((line) => line.map((cell) =>
        cell.mean === null ? "" : measure.kind === "share" ? (100 * cell.mean).toFixed(1) : written(cell.mean, measure.kind))),
      texttemplate: "%{text}", hoverongaps: false,
      customdata: cells.map((line) => line.map((cell) =>
        `mean ${written(cell.mean, measure.kind)} of ${cell.n} runs<br>best ${written(cell.best, measure.kind)}`)),
      hovertemplate: "%{customdata}<extra></extra>",
    };
  });
  plot(cleared(target), traces, layout, `Means of the ${measure.title} by ${across.title} and ${down.title}`);
}

/** The architectures whose importances are estimated, and the settings of these estimates. */
function importances() {
  const estimated = data.importance.filter((one) => Object.keys(one.shares).length);
  const names = varied.map((one) => one.name).filter((name) => estimated.some((one) => name in one.shares));
  return [estimated, names];
}

function heightOfImportance() {
  const [estimated, names] = importances();
  return estimated.length ? 90 + names.length * (16 + 15 * estimated.length) : 0;
}

function drawImportance(target) {
  const [estimated, names] = importances();
  if (!estimated.length) return empty(target, "No architecture has enough finished runs.");
  const total = (name) => estimated.reduce((sum, one) => sum + (one.shares[name] ?? 0), 0);
  names.sort((a, b) => total(a) - total(b));
  const traces = [...estimated].reverse().map((one) => ({
    type: "bar", orientation: "h", name: safe(one.model), marker: { color: modelColour(one.model) },
    y: names.map((name) => safe(settingOf[name].title)), x: names.map((name) => one.shares[name] ?? 0),
    texttemplate: "%{x:.0%}", textposition: "outside", cliponaxis: false,
    hovertemplate: `${safe(one.model)}, ${one.runs} cells: %{x:.1%}<extra></extra>`,
  }));
  const most = Math.max(...estimated.flatMap((one) => Object.values(one.shares)));
  plot(cleared(target), traces, {
    bargap: 0.28, margin: { l: 100, r: 34, t: 36, b: 34 },
    xaxis: axis({ tickformat: ".0%", range: [0, Math.min(1.02, most * 1.12)] }), yaxis: axis({ showgrid: false }),
    showlegend: true, legend: { orientation: "h", traceorder: "reversed", x: 0, y: 1.02, yanchor: "bottom" },
  }, "Importance of the hyperparameters");
}

const validation = measureOf.best_val_accuracy ?? measureOf.val_accuracy;

function heightOfScatter(target, rows) {
  return validation && rows.length ? 380 : 0;
}

function drawScatter(target, rows) {
  const [across, down] = [validation, measureOf.test_accuracy_best_val_acc];
  if (!across || !rows.length) return empty(target, across ? "No run to show." : "The table has no validation accuracies.");
  const traces = shownModels(rows).map((model) => {
    const mine = rows.filter((row) => models[row] === model);
    return {
      type: "scatter", mode: "markers", name: safe(model), x: mine.map((row) => columns[across.name][row]),
      y: mine.map((row) => columns[down.name][row]), customdata: mine.map((row) => columns.key[row]),
      text: mine.map((row) => safe(runLabel(row))), hovertemplate: "%{text}<br>validation %{x:.2%}, test %{y:.2%}<extra></extra>",
      marker: { size: 7, color: modelColour(model), opacity: 0.7, symbol: mine.map((row) => isPruned(row) ? "x-thin-open" : "circle") },
    };
  });
  plot(cleared(target), traces, {
    xaxis: axis({ tickformat: ".0%", title: { text: across.title } }), margin: { l: 62, r: 12, t: 36, b: 50 },
    yaxis: axis({ tickformat: ".0%", title: { text: "test accuracy" } }),
    showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
  }, "Validation and test accuracy of the runs shown");
  if (!target.dataset.opens) {
    target.dataset.opens = "true";
    target.on("plotly_click", (event) => openRun(event.points[0].customdata, true));
  }
}

/** A colour for each compared run: its architecture's, in shades where there are more of one. */
function curveColours(keys) {
  const seen = {};
  const counts = {};
  for (const key of keys) counts[models[rowOf.get(key)]] = (counts[models[rowOf.get(key)]] ?? 0) + 1;
  return keys.map((key) => {
    const model = models[rowOf.get(key)];
    seen[model] = (seen[model] ?? 0) + 1;
    const part = counts[model] === 1 ? 0 : -0.45 + (0.95 * (seen[model] - 1)) / (counts[model] - 1);
    return shade(modelColour(model), part);
  });
}

const curvesBelow = ({ clientWidth }) => clientWidth < 640; // accuracies below the losses instead of beside them

function heightOfCurves(target) {
  const [lines, column] = curvesBelow(target) ? [view.picked.length, 620] : [Math.ceil(view.picked.length / 2), 380];
  return lines && column + 22 * lines; // pixels per row of the legend
}

async function drawCurves(target) {
  const keys = [...view.picked];
  const found = await Promise.all(keys.map(detailsOf));
  if (keys.join() !== view.picked.join()) return; // the selection has changed meanwhile
  const rows = keys.map((key) => rowOf.get(key));
  const colours = curveColours(keys);
  const drawn = keys.map((key, place) => ({ key, place, curves: found[place]?.curves })).filter((one) => one.curves);
  const without = keys.length - drawn.length;
  byId("curves-none").textContent = !keys.length ? "Tick runs in the table to compare them."
    : without ? `${without} of these runs have no learning curve here.` : "";
  if (!drawn.length) return empty(target, "");
  const narrow = curvesBelow(target);
  const traces = drawn.flatMap(({ place, curves }) => curveTraces(curves, runLabel(rows[place], rows), colours[place]));
  const titles = [["cross-entropy (nats)", ""], ["accuracy", "2"]];
  plot(cleared(target), traces, {
    margin: { l: 52, r: 12, t: 34, b: 48 },
    grid: { rows: narrow ? 2 : 1, columns: narrow ? 1 : 2, pattern: "independent", xgap: 0.12, ygap: 0.25 },
    xaxis: axis({ title: { text: "epoch" } }), xaxis2: axis({ title: { text: "epoch" } }),
    yaxis: axis(), yaxis2: axis({ tickformat: ".0%" }),
    annotations: titles.map(([text, number]) => ({
      text: `<b>${text}</b>`, showarrow: false, xref: `x${number} domain`, yref: `y${number} domain`, x: 0, y: 1.02, xanchor: "left", yanchor: "bottom",
    })),
    showlegend: true, legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom", font: { size: 12 } },
  }, `Learning curves of ${drawn.length} runs`);
}

function curveTraces(curves, label, color) {
  const trace = (name, number, dash) => {
    const there = curves.epoch.map((_, place) => place).filter((place) => curves[name][place] !== null);
    return {
      type: "scatter", mode: there.length > 1 ? "lines" : "markers", name: safe(label), legendgroup: label,
      showlegend: name === "val_accuracy", xaxis: `x${number}`, yaxis: `y${number}`,
      x: there.map((place) => curves.epoch[place]), y: there.map((place) => curves[name][place]),
      line: { color, width: dash === "dash" ? 1.2 : 2, dash }, marker: { color },
      hovertemplate: `${safe(label)}<br>epoch %{x}: %{y${number ? ":.2%" : ":.4f"}}<extra></extra>`,
    };
  };
  return [
    trace("train_loss", "", "dash"), trace("val_loss", "", "solid"),
    trace("train_accuracy", "2", "dash"), trace("val_accuracy", "2", "solid"),
  ];
}
