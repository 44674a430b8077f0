// Everything starts here; without this script the pages are whole, only not interactive.
function start() {
  var boards = all("[data-board]").map(function (box, index) { return new Board(box, index); });
  boards.forEach(function (board) { board.start(); });
  if (boards.length) startTray(boards);
  startCompare();
  startBrains();
  document.documentElement.setAttribute("data-ready", "");
}
window.voxelboardTests = { rankOverall: rankOverall, decompose: decompose, tTwoSided: tTwoSided, tQuantile: tQuantile, holm: holm, pairedDifference: pairedDifference, parseFilter: parseFilter, csvCell: csvCell, latex: latex };
// After the first paint: a table of hundreds of rows takes a while to get its controls. Where nothing is painted (a tab behind
// others, a page that is archived) a second after loading.
function afterPaint() {
  var started = false;
  function once() { if (!started) { started = true; start(); } }
  requestAnimationFrame(function () { setTimeout(once); });
  setTimeout(once, 1000);
}
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", afterPaint); else afterPaint();
