// The rows of the table, filtering, and the details of single runs.

const columns = data.columns;
const settings = data.settings;
const measures = data.measures;
const count = columns.key.length;
const measureOf = Object.fromEntries(measures.map((one) => [one.name, one]));
const settingOf = Object.fromEntries(settings.map((one) => [one.name, one]));
const rowOf = new Map(columns.key.map((key, row) => [key, row]));
const varied = settings.filter((one) => one.is_continuous || one.labels.length > 1);
const models = modelsOfRows();
const searchTexts = Array.from({ length: count }, (_, row) => searchText(row));

function modelsOfRows() {
  const labels = settingOf.Modelname.labels;
  return columns.Modelname.map((place) => labels[place]);
}

/** A setting of a row in words. */
function settingText(setting, row) {
  const value = columns[setting.name][row];
  return setting.is_continuous ? written(value, "number") : setting.labels[value];
}

function searchText(row) {
  const words = ["Full_Modelname", "run_id", "stop_reason", "device", "precision"]
    .filter((name) => columns[name])
    .map((name) => columns[name][row]);
  return [...words, ...settings.map((one) => settingText(one, row))].join(" ").toLowerCase();
}

/** The rows that match the filters, in the table's order. */
function shownRows() {
  const words = view.text.toLowerCase().split(/\s+/).filter(Boolean);
  const levels = Object.entries(view.levels).filter(([, places]) => places.length);
  const ranges = Object.entries(view.ranges);
  const rows = [];
  for (let row = 0; row < count; row += 1) {
    if (
      levels.every(([name, places]) => places.includes(columns[name][row])) &&
      ranges.every(([name, [low, high]]) => within(columns[name][row], low, high)) &&
      words.every((word) => searchTexts[row].includes(word))
    ) rows.push(row);
  }
  return rows;
}

function within(value, low, high) {
  if (value === null) return low === null && high === null;
  return (low === null || value >= low) && (high === null || value <= high);
}

/** The same rows, sorted; missing values come last in both directions. */
function sorted(rows) {
  const [name, way] = view.sort;
  const values = columns[name];
  return [...rows].sort((a, b) => {
    if (values[a] === null || values[b] === null) {
      return (values[a] === null) - (values[b] === null) || a - b;
    }
    return way * (values[a] - values[b]) || a - b;
  });
}

function isPruned(row) {
  return columns.stop_reason ? columns.stop_reason[row] === "pruned" : false;
}

/** Mean, best and number of a measure over rows; pruned runs and gaps do not count. */
function averaged(rows, measure) {
  const values = columns[measure];
  const least = measureOf[measure].lower_is_better;
  let [sum, n, best] = [0, 0, null];
  for (const row of rows) {
    const value = values[row];
    if (value === null || isPruned(row)) continue;
    sum += value;
    n += 1;
    if (best === null || (least ? value < best : value > best)) best = value;
  }
  return { mean: n ? sum / n : null, best, n };
}

function grouped(rows, name) {
  const groups = new Map();
  for (const row of rows) {
    const value = columns[name][row];
    if (!groups.has(value)) groups.set(value, []);
    groups.get(value).push(row);
  }
  return groups;
}

/** The settings that tell the runs of an architecture apart, and the published ones, by architecture. */
const ownSettings = Object.fromEntries(data.models.map((model) => {
  const rows = models.flatMap((other, row) => (other === model ? [row] : []));
  return [model, varied.filter((one) => one.is_published || differ(rows, one))];
}));

function differ(rows, { name }) {
  return rows.some((row) => columns[name][row] !== columns[name][rows[0]]);
}

/** A run in words: its architecture, and the settings in which it and `among` differ. */
function runLabel(row, among = null) {
  const differing = (among ? varied.filter((one) => differ(among, one)) : ownSettings[models[row]])
    .filter((one) => one.name !== "Modelname" && columns[one.name][row] !== one.unset);
  const words = differing.map((one) => {
    const text = settingText(one, row);
    if (one.name === "augmentation") return text === "on" ? "augmented" : "not augmented";
    const short = { learning_rate: "lr", weight_decay: "wd", scheduler: "" }[one.name] ?? one.title;
    return `${short} ${text}`.trim();
  });
  return [models[row], ...words].join(", ");
}

let details = null;

/** The details of single runs, by key: unpacked when they are first needed. */
async function runs() {
  details ??= unpacked(document.getElementById("packed").textContent);
  return details;
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** The details of a run; a row that is another name of a training has those of its run. */
async function detailsOf(key) {
  const all = await runs();
  const details = all[key];
  return details?.same_as ? all[details.same_as] : details;
}
