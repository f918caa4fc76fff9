// While the sweep runs the file is rewritten: reload it and restore the scroll position.

const SCROLL = "sweep-report-scroll";
const IDLE_SECONDS = 3; // no reload during typing or scrolling
let touched = 0;
let paused = false;

function watch() {
  restoreScroll();
  if (!data.watch) return;
  const button = element("button", { type: "button", class: "plain", id: "pause", onclick: pause }, "Pause");
  byId("watch").append(` The sweep runs: reloaded every ${Math.round(data.watch)} s. `, button);
  for (const kind of ["pointerdown", "keydown", "wheel", "touchmove"]) {
    window.addEventListener(kind, () => { touched = performance.now(); }, { passive: true });
  }
  window.addEventListener("load", () => setTimeout(readAgain, 1000 * data.watch));
}

function pause() {
  paused = !paused;
  byId("pause").textContent = paused ? "Resume" : "Pause";
}

function readAgain() {
  const busy = touched && performance.now() - touched < 1000 * IDLE_SECONDS;
  if (paused || busy) return setTimeout(readAgain, 1000);
  remember();
  keep(sessionStorage, SCROLL, String(window.scrollY));
  location.reload();
}

function restoreScroll() {
  const kept = stored(sessionStorage, SCROLL);
  if (kept !== null) window.scrollTo({ top: Number(kept), behavior: "instant" });
  try { sessionStorage.removeItem(SCROLL); } catch { /* no storage */ }
}

function keep(storage, name, text) {
  try { storage.setItem(name, text); } catch { /* no storage for files in this browser */ }
}

function stored(storage, name) {
  try { return storage.getItem(name); } catch { return null; }
}
