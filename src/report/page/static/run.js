// Details of one run: settings, command, confusion matrix, worst classes, mistakes, t-SNE.

async function showRun() {
  const key = view.open;
  const target = byId("details");
  if (key === null) return target.replaceChildren(element("p", { class: "quiet" }, "No run is selected."));
  const details = (await detailsOf(key)) ?? {};
  if (key !== view.open) return;
  const row = rowOf.get(key);
  removePlot("confusion");
  removePlot("tsne-plot");
  target.replaceChildren(
    headOf(row, details), results(row), commandOf(details), ...allSettings(details), classesOf(details), ...mistakesOf(row, details), ...tsneOf(row, details));
  byId("run-title").textContent = `One run: ${runLabel(row)}`;
  if (details.confusion) addPlot("confusion", (where) => drawConfusion(where, details), (where) => confusionHeight(where, details));
  if (details.tsne) addPlot("tsne-plot", (where) => drawTsne(where, details), () => 480);
  drawStale();
}

function headOf(row, details) {
  const alias = columns.alias_of?.[row];
  const parts = [
    columns.Full_Modelname?.[row],
    columns.run_id?.[row] ? `id ${columns.run_id[row]}` : null,
    alias ? `the same training as ${alias}` : null,
    columns.stop_reason?.[row],
    details.folder ?? null,
  ].filter(Boolean);
  return element("p", { class: "quiet" }, parts.join(" \u00b7 "), " ",
    element("button", { type: "button", class: "plain", onclick: backToTable }, "Back to the table"));
}

function facts(pairsOfText) {
  return element("dl", { class: "facts" }, ...pairsOfText.map(([name, text]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, text))));
}

/** The results of a row; the interval is beside the test accuracy. */
function results(row) {
  const known = measures.filter((one) => columns[one.name][row] !== null);
  const pairs = known.map((one) => {
    const text = written(columns[one.name][row], one.kind);
    const bounds = [columns.low[row], columns.high[row]].map((value) => written(value, "share"));
    return [one.title, one.name === "test_accuracy_best_val_acc" ? `${text} (${bounds.join(" to ")})` : text];
  });
  return element("div", { class: "card" }, facts(pairs));
}

function commandOf(details) {
  const button = element("button", { type: "button", class: "plain", id: "copy" }, "Copy");
  button.addEventListener("click", () => copy(details.command ?? "", button));
  const note = details.from_table_only ? element("p", { class: "quiet" },
    "Only with the settings that the table has; the others are this project's defaults.") : "";
  return element("div", { class: "card" },
    element("h3", { style: { "margin-top": "0" } }, "Train it again"),
    element("div", { class: "command" }, element("code", { id: "command" }, details.command ?? ""), button), note);
}

async function copy(text, button) {
  const done = (await writeToClipboard(text)) ? "Copied" : "Not copied";
  button.textContent = done;
  say(done === "Copied" ? "the command is copied" : "the browser does not let the page copy");
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

async function writeToClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", { class: "sr" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy"); // browsers without a clipboard API for file://
    field.remove();
    return done;
  }
}

function allSettings(details) {
  if (!details.settings) return [];
  const pairs = Object.entries(details.settings).map(([name, value]) =>
    [name.replaceAll("_", " "), value === null ? "none" : String(value)]);
  return [element("details", {}, element("summary", {}, `All ${pairs.length} settings, those not at their default first`),
    element("div", { class: "card" }, facts(pairs)))];
}

function classesOf(details) {
  const left = element("figure", { class: "card" }, element("figcaption", {}, element("b", {}, "Confusion matrix.")));
  left.append(details.confusion
    ? element("div", { id: "confusion", class: "plot" })
    : element("p", { class: "quiet" }, details.no_confusion ?? "The table has no confusion matrices; run folders do."));
  const right = element("figure", { class: "card" }, element("figcaption", {}, element("b", {}, "Worst classes.")));
  right.append(details.worst ? worstTable(details.worst) : element("p", { class: "quiet" }, "Unknown."));
  const wide = details.confusion && classNames(details).length > MANY_CLASSES;
  return element("div", { class: wide ? "" : "two" }, left, right);
}

function worstTable(worst) {
  const mistaken = worst.some((one) => one.most_often_taken_for);
  const heads = ["class", "accuracy", ...(mistaken ? ["taken for"] : [])];
  const lines = worst.map((one) => {
    const others = (one.most_often_taken_for ?? []).map((other) => `${other.class} ${other.images}`).join(", ");
    return element("tr", {}, element("th", { scope: "row" }, one.class), element("td", {}, written(one.accuracy, "share")),
      ...(mistaken ? [element("td", { class: "l" }, others || DASH)] : []));
  });
  return element("table", { id: "worst" },
    element("thead", {}, element("tr", {}, ...heads.map((text, place) =>
      element("th", { scope: "col", class: place === 2 ? "l" : "" }, text)))),
    element("tbody", {}, ...lines));
}

const isTight = (target) => target.clientWidth < 460;

const classNames = (details) => details.classes ?? data.classes;
const MANY_CLASSES = 20; // more have no room for numbers, which the pointer then shows

function confusionHeight(target, details) {
  if (classNames(details).length > MANY_CLASSES) return Math.min(1000, target.clientWidth);
  return isTight(target) ? 360 : 430;
}

function drawConfusion(target, details) {
  const names = classNames(details);
  const [size, many] = [names.length, names.length > MANY_CLASSES];
  const lines = names.map((_, row) => details.confusion.slice(size * row, size * row + size));
  const ticks = many ? { tickmode: "linear", dtick: Math.ceil(size / (isTight(target) ? 20 : 34)), tickfont: { size: 9 } } : {};
  const shares = lines.map((line) => line.map((value) => value / Math.max(1, line.reduce((a, b) => a + b))));
  plot(cleared(target), [{
    type: "heatmap", x: names, y: names, z: shares, text: lines, showscale: false,
    ...(many ? {} : { texttemplate: "%{text}", xgap: 1, ygap: 1 }),
    textfont: { size: isTight(target) ? 9 : 11 }, zmin: 0, zmax: 1,
    colorscale: [0, 1, 2, 3, 4].map((step) => [step / 4, colour(`map-${step}`)]),
    hovertemplate: "%{y} taken for %{x}: %{text} (%{z:.1%})<extra></extra>",
  }], {
    margin: { l: 76, r: 6, t: 8, b: 76 },
    xaxis: axis({ title: { text: "predicted" }, tickangle: many ? -90 : -45, showgrid: false, ...ticks }),
    yaxis: axis({ title: { text: "true" }, autorange: "reversed", showgrid: false, ...ticks }),
  }, "Confusion matrix");
}

function mistakesOf(row, details) {
  const head = element("h3", {}, "Most confident mistakes");
  if (!details.mistakes) return [head, instead("images", row, "Images are stored for the best runs of each architecture.")];
  if (!details.mistakes.length) return [head, element("p", {}, "It made no mistake.")];
  return [head, element("ul", { class: "gallery" }, ...details.mistakes.map(mistake))];
}

function mistake(one) {
  const [across, size] = [data.pictures.columns, 96];
  const words = `a ${one.true} that is taken for a ${one.predicted}`;
  const tile = element("span", {
    class: "tile", role: "img", "aria-label": words,
    style: {
      "background-image": `url(data:image/png;base64,${data.pictures.png})`, "background-size": `${across * size}px`,
      "background-position": `${-(one.tile % across) * size}px ${-Math.floor(one.tile / across) * size}px`,
    },
  });
  return element("li", {}, tile, `${one.true}, taken for `, element("span", { class: "not" }, one.predicted),
    ` (${(100 * one.confidence).toFixed(1)}%)`);
}

function tsneOf(row, details) {
  const head = element("h3", {}, "t-SNE of its penultimate features");
  if (!details.tsne) return [head, instead("tsne", row, "It is computed for the best run of each architecture.")];
  return [head, element("figure", { class: "card" },
    element("figcaption", {}, `${details.tsne.label.length} test images, equally many of each class, by predicted class; wrong predictions are ringed; perplexity ${details.tsne.perplexity}.`),
    element("div", { id: "tsne-plot", class: "plot" }))];
}

function instead(report, row, why) {
  const id = columns.run_id?.[row];
  const how = id ? [" Of this one: ", element("code", {}, `python -m src.report ${report} --run ${id}`)] : [];
  return element("p", { class: "quiet" }, why, ...how);
}

const CLASS_COLOURS = [
  "#3b76b5", "#d9822b", "#4d9a57", "#c2453f", "#8f6bb8", "#8c6250", "#d678b1", "#8a8a8a", "#a9a12f", "#39a5b8",
];

function drawTsne(target, details) {
  const [tsne, names] = [details.tsne, classNames(details)];
  const traces = names.map((name, label) => {
    const mine = tsne.x.map((_, place) => place).filter((place) => tsne.predicted[place] === label);
    const wrong = mine.map((place) => tsne.label[place] !== label);
    return {
      type: "scatter", mode: "markers", name, x: mine.map((place) => tsne.x[place]), y: mine.map((place) => tsne.y[place]),
      text: mine.map((place) => `a ${names[tsne.label[place]]}, predicted ${name}`), hoverinfo: "text",
      marker: {
        size: 7, color: CLASS_COLOURS[label % CLASS_COLOURS.length],
        line: { width: wrong.map((is) => (is ? 1.8 : 0)), color: colour("ink") },
      },
    };
  });
  const bare = { showgrid: false, showticklabels: false, zeroline: false };
  plot(cleared(target), traces, {
    margin: { l: 8, r: 8, t: 8, b: 8 }, xaxis: bare, yaxis: { ...bare, scaleanchor: "x" },
    showlegend: names.length <= MANY_CLASSES, legend: target.clientWidth < 640 ? { orientation: "h" } : {},
  }, "t-SNE of the penultimate features");
}

/** Show a run; `go`: and move there. */
function openRun(key, go) {
  view.open = key;
  setActive(rowOf.get(key));
  remember();
  markRows();
  outdate("parallel");
  showRun().then(() => {
    if (!go) return;
    byId("run").scrollIntoView();
    byId("run-title").focus({ preventScroll: true });
  });
}

function backToTable() {
  byId("runs").scrollIntoView();
  openButton(active)?.focus();
}

function togglePicked(key) {
  view.picked = view.picked.includes(key) ? view.picked.filter((one) => one !== key) : [...view.picked, key];
  say(view.picked.includes(key) ? "added to the learning curves" : "removed from the learning curves");
  remember();
  showPicked();
}

function showPicked() {
  markRows();
  const colours = curveColours(view.picked);
  byId("picked").replaceChildren(...view.picked.map((key, place) => {
    const label = runLabel(rowOf.get(key));
    return element("span", {},
      element("span", { class: "dot", style: { "--c": colours[place] } }), label,
      element("button", { type: "button", "aria-label": `Remove ${label}`, onclick: () => togglePicked(key) }, "\u00d7"));
  }));
  outdate("curves-plot");
}
