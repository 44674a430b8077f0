// One classic script, inlined: pages work from file:// and without it. Sorts and filters the tables of the index.
(function () {
  "use strict";
  function value(row, index, numeric) {
    var cell = row.cells[index];
    if (!cell) return null;
    var held = cell.getAttribute("data-v");
    if (held === null) return numeric ? null : cell.textContent.trim().toLowerCase();
    return numeric ? (held === "" ? null : Number(held)) : held.toLowerCase();
  }
  function sortBy(table, header, say) {
    var index = header.cellIndex;
    var numeric = header.hasAttribute("data-number");
    var now = header.getAttribute("aria-sort");
    var first = header.getAttribute("data-first") || "ascending";
    var other = first === "ascending" ? "descending" : "ascending";
    var direction = now === first ? other : first;
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (cell) { cell.removeAttribute("aria-sort"); });
    header.setAttribute("aria-sort", direction);
    var sign = direction === "ascending" ? 1 : -1;
    Array.prototype.forEach.call(table.tBodies, function (body) {
      if (!body.hasAttribute("data-sortable")) return;
      var rows = Array.prototype.slice.call(body.rows).filter(function (row) { return !row.hasAttribute("data-head"); });
      var keyed = rows.map(function (row) { return { row: row, key: value(row, index, numeric), place: Number(row.getAttribute("data-place")) }; });
      keyed.sort(function (a, b) {
        // what is missing stays last in both directions
        if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
        if (a.key < b.key) return -sign;
        if (a.key > b.key) return sign;
        return a.place - b.place;
      });
      keyed.forEach(function (item) { body.appendChild(item.row); });
    });
    say("Sorted by " + header.getAttribute("data-name") + ", " + direction);
  }
  function filter(table, text, say) {
    var words = text.toLowerCase().split(/\s+/).filter(Boolean);
    var shown = 0, all = 0;
    Array.prototype.forEach.call(table.querySelectorAll("tbody[data-sortable] tr[data-text]"), function (row) {
      var held = row.getAttribute("data-text");
      var fits = words.every(function (word) { return held.indexOf(word) >= 0; });
      row.hidden = !fits;
      all += 1;
      if (fits) shown += 1;
    });
    say(shown + " of " + all + " models shown");
  }
  Array.prototype.forEach.call(document.querySelectorAll("[data-board]"), function (box) {
    var table = box.querySelector("table");
    var tools = box.querySelector(".tools");
    var live = box.querySelector("[aria-live]");
    function say(message) { live.textContent = message; }
    tools.hidden = false;
    tools.querySelector("input").addEventListener("input", function () { filter(table, this.value, say); });
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (header) {
      var button = header.querySelector("button");
      if (button) button.addEventListener("click", function () { sortBy(table, header, say); });
    });
  });
})();
