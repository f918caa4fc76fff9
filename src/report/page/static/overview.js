// The overview plot: every run as a point, and the best run so far.

const TEST_MEASURE = "test_accuracy_best_val_acc";

function heightOfOverview(target, rows) {
  return rows.length ? 360 : 0;
}

/** Whether `value` ranks before `other` by the measure that the page ranks runs by. */
function ranksBefore(value, other) {
  return data.lower_is_better ? value < other : value > other;
}

/** The rows that are the best so far, in the order of the table; pruned runs do not count. */
function leads(rows) {
  const values = columns[data.rank.column];
  const changes = [];
  for (const row of rows) {
    if (values[row] === null || isPruned(row)) continue;
    if (!changes.length || ranksBefore(values[row], values[changes.at(-1)])) changes.push(row);
  }
  return changes;
}

/** The best row of each architecture. */
function leaders(rows) {
  return shownModels(rows)
    .map((model) => leads(rows.filter((row) => models[row] === model)).at(-1))
    .filter((row) => row !== undefined);
}

function pointTrace(model, rows, numberOf) {
  const values = columns[TEST_MEASURE];
  const mine = rows.filter((row) => models[row] === model && values[row] !== null);
  return {
    type: "scatter", mode: "markers", name: safe(model), x: mine.map((row) => numberOf.get(row)),
    y: mine.map((row) => values[row]), customdata: mine.map((row) => columns.key[row]),
    text: mine.map((row) => safe(runLabel(row)) + (isPruned(row) ? " (pruned)" : "")),
    hovertemplate: "%{text}<br>test %{y:.2%}<extra></extra>",
    marker: {
      size: 8, color: modelColour(model), opacity: 0.75, line: { width: 1.3, color: modelColour(model) },
      symbol: mine.map((row) => (isPruned(row) ? "circle-open" : "circle")),
    },
  };
}

/** The test accuracy of the best run so far, as a step line. */
function leadTrace(rows, numberOf) {
  const changes = leads(rows);
  const ends = [...changes, rows.at(-1)];
  const values = ends.map((row, place) => columns[TEST_MEASURE][place < changes.length ? row : changes.at(-1)]);
  return {
    type: "scatter", mode: "lines", name: "best so far", x: ends.map((row) => numberOf.get(row)), y: values,
    line: { shape: "hv", width: 1.6, color: colour("quiet") }, hoverinfo: "skip",
  };
}

/** The 95 % interval of the best run of each architecture, with its value beside it. */
function leaderTraces(rows, numberOf) {
  return leaders(rows).map((row) => {
    const value = columns[TEST_MEASURE][row];
    return {
      type: "scatter", mode: "markers", x: [numberOf.get(row)], y: [value], showlegend: false, hoverinfo: "skip",
      marker: { size: 9, color: modelColour(models[row]), line: { width: 2, color: colour("card") } },
      error_y: {
        type: "data", symmetric: false, array: [columns.high[row] - value], arrayminus: [value - columns.low[row]],
        color: modelColour(models[row]), thickness: 2, width: 6,
      },
    };
  });
}

function drawOverview(target, rows) {
  if (!rows.length) return empty(target, "No run to show.");
  const numberOf = new Map(rows.map((row, place) => [row, place + 1]));
  const traces = [
    ...(data.data_sets > 1 ? [] : [leadTrace(rows, numberOf)]), // none leads over data sets
    ...shownModels(rows).map((model) => pointTrace(model, rows, numberOf)),
    ...leaderTraces(rows, numberOf),
  ];
  plot(cleared(target), traces, {
    margin: { l: 56, r: 12, t: 34, b: 46 },
    xaxis: axis({ title: { text: "run, in the order of the table" }, rangemode: "tozero", showgrid: false }),
    yaxis: axis({ tickformat: ".0%", title: { text: "test accuracy" } }),
    showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
  }, `Test accuracy of ${rows.length} runs, and the best so far`);
  if (!target.dataset.opens) {
    target.dataset.opens = "true";
    target.on("plotly_click", (event) => {
      const key = event.points.map((point) => point.customdata).find(Boolean);
      if (key) openRun(key, true);
    });
  }
}
