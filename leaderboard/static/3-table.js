// Sort, filter, facets and downloads of one table.
var FACETS = ["size", "family", "loader", "open", "exposure", "verified", "state", "licence"];
var ALIASES = { model: "name", exposed: "exposure", openness: "open", verification: "verified", parameters: "params" };
var MULTIPLES = { k: 1e3, m: 1e6, b: 1e9, t: 1e12 };

function Board(box, index) {
  this.box = box;
  this.suffix = index ? String(index + 1) : "";
  this.kind = box.getAttribute("data-board");
  this.table = box.querySelector("table.board");
  this.facts = json(box.querySelector("script.rows")) || [];
  this.live = box.querySelector("[aria-live]");
  this.rows = all("tbody tr[data-i]", this.table);
  this.headers = Array.prototype.slice.call(this.table.tHead.rows[0].cells);
  this.order = [];
  this.chosen = {};
  var self = this;
  this.rows.forEach(function (row) {
    var fact = self.facts[Number(row.getAttribute("data-i"))] || {};
    row.fact = fact;
    row.home = row.parentNode;
    row.words = Object.keys(fact).map(function (key) { return String(fact[key]); }).join(" ").toLowerCase();
  });
}
Board.prototype.say = function (text) { this.live.textContent = text; };
Board.prototype.note = function (key, value) { var change = {}; change[key + this.suffix] = value; writeState(change); };
Board.prototype.noted = function (key) { return readState()[key + this.suffix]; };

// ---- sorting: click for one column, shift for several; what is missing stays last in both directions
Board.prototype.sortBy = function (column, more) {
  var header = this.headers[column], first = header.getAttribute("data-first") || "ascending";
  var held = this.order.filter(function (one) { return one.column === column; })[0];
  var direction = held ? (held.direction === "ascending" ? "descending" : "ascending") : first;
  var rest = more ? this.order.filter(function (one) { return one.column !== column; }) : [];
  this.order = more && held ? this.order.map(function (one) { return one.column === column ? { column: column, direction: direction } : one; })
    : rest.concat([{ column: column, direction: direction }]);
  this.sort();
  this.note("s", this.order.map(function (one) { return (one.direction === "descending" ? "-" : "") + one.column; }).join(","));
  var self = this;
  this.say("Sorted by " + this.order.map(function (one) {
    return self.headers[one.column].getAttribute("data-name") + ", " + one.direction;
  }).join(", then "));
};
Board.prototype.value = function (row, column) {
  var cell = row.cells[column], numeric = this.headers[column].hasAttribute("data-number");
  var held = cell.getAttribute("data-v");
  if (held === null) held = numeric ? "" : cell.textContent.trim();
  if (held === "" || held === "\u2013") return null;
  return numeric ? Number(held) : held.toLowerCase();
};
Board.prototype.sort = function () {
  var self = this;
  this.headers.forEach(function (header) { header.removeAttribute("aria-sort"); header.removeAttribute("data-order"); });
  this.order.forEach(function (one, place) {
    if (place === 0) self.headers[one.column].setAttribute("aria-sort", one.direction);
    if (self.order.length > 1) self.headers[one.column].setAttribute("data-order", place + 1 + (one.direction === "ascending" ? "\u2191" : "\u2193"));
  });
  all("tbody[data-sortable]", this.table).forEach(function (body) {
    var rows = all("tr[data-i]", body).map(function (row) {
      return { row: row, place: Number(row.getAttribute("data-i")), keys: self.order.map(function (one) { return self.value(row, one.column); }) };
    });
    rows.sort(function (a, b) {
      for (var k = 0; k < self.order.length; k++) {
        var x = a.keys[k], y = b.keys[k];
        if (x === y) continue;
        if (x === null || y === null) return x === null ? 1 : -1;
        return (x < y ? -1 : 1) * (self.order[k].direction === "ascending" ? 1 : -1);
      }
      return a.place - b.place;
    });
    rows.forEach(function (item) { body.append(item.row); });
  });
};

// ---- filtering: words, field:value, size<1B, -not, /regex/
function amount(text) {
  var match = /^([0-9.]+)([kmbt]?)$/i.exec(text);
  return match ? Number(match[1]) * (match[2] ? MULTIPLES[match[2].toLowerCase()] : 1) : NaN;
}
function parseFilter(text) {
  var tests = [], problem = "";
  (text.match(/-?(?:[\w]+:)?\/(?:\\.|[^/])+\/|-?(?:[\w]+:)?"[^"]*"|\S+/g) || []).forEach(function (word) {
    var not = word.charAt(0) === "-" && word.length > 1, body = not ? word.slice(1) : word, test;
    var pair = /^(\w+):(.+)$/.exec(body), field = pair ? ALIASES[pair[1].toLowerCase()] || pair[1].toLowerCase() : null;
    var compare = /^(size|params|score)(<=|>=|<|>|=)(.+)$/i.exec(body), value = (pair ? pair[2] : body).replace(/^"|"$/g, "");
    if (compare) {
      var limit = amount(compare[3]), key = compare[1].toLowerCase(), sign = compare[2];
      if (isNaN(limit)) problem = compare[3] + " is not a number";
      test = function (fact, row) {
        var has = key === "score" ? row.score : fact.params;
        if (has === undefined || has === null || isNaN(has)) return false;
        return sign === "<" ? has < limit : sign === ">" ? has > limit : sign === "<=" ? has <= limit : sign === ">=" ? has >= limit : has === limit;
      };
    } else if (/^\/.+\/$/.test(value)) {
      try {
        var pattern = new RegExp(value.slice(1, -1), "i");
        test = function (fact, row) { return pattern.test(field ? String(fact[field] || "") : row.words); };
      } catch (error) { problem = value + " is not a regular expression"; return; }
    } else if (field) {
      var wanted = value.toLowerCase();
      test = function (fact) { return String(fact[field] === undefined ? "" : fact[field]).toLowerCase().indexOf(wanted) >= 0; };
    } else {
      var needle = value.toLowerCase();
      test = function (fact, row) { return row.words.indexOf(needle) >= 0; };
    }
    tests.push(function (fact, row) { return test(fact, row) !== not; });
  });
  return { tests: tests, problem: problem };
}
Board.prototype.filter = function () {
  var parsed = parseFilter(this.input.value), shown = 0, total = 0, self = this, column = this.scoreColumn();
  this.rows.forEach(function (row) {
    if (row.fact.row === "baseline") return;
    var score = self.value(row, column);
    row.score = score === null ? NaN : score;
    var fits = parsed.tests.every(function (test) { return test(row.fact, row); });
    fits = fits && Object.keys(self.chosen).every(function (field) { return self.chosen[field].indexOf(row.fact[field] || "") >= 0; });
    row.hidden = !fits;
    total += 1;
    if (fits) shown += 1;
  });
  this.note("q", this.input.value);
  this.note("f", Object.keys(this.chosen).map(function (field) { return field + ":" + self.chosen[field].join("|"); }).join(";"));
  this.say(parsed.problem || shown + " of " + total + " models shown");
};
Board.prototype.scoreColumn = function () {
  return this.headers.findIndex(function (header) { return /^(Score|Overall)$/.test(header.getAttribute("data-name") || ""); });
};
Board.prototype.facets = function () {
  var self = this, groups = [];
  FACETS.forEach(function (field) {
    var counts = {};
    self.rows.forEach(function (row) {
      if (row.fact.row === "baseline") return;
      var value = row.fact[field] || "";
      counts[value] = (counts[value] || 0) + 1;
    });
    var values = Object.keys(counts).filter(function (value) { return value !== ""; });
    if (values.length < 2 || values.length > 24) return;
    var box = element("fieldset", {}, element("legend", {}, field));
    values.sort().forEach(function (value) {
      var tick = element("input", { type: "checkbox" });
      tick.checked = (self.chosen[field] || []).indexOf(value) >= 0;
      tick.addEventListener("change", function () {
        var held = (self.chosen[field] || []).filter(function (one) { return one !== value; });
        if (tick.checked) held.push(value);
        if (held.length) self.chosen[field] = held; else delete self.chosen[field];
        self.filter();
      });
      box.append(element("label", {}, tick, " ", element("bdi", {}, value), element("small", {}, " " + counts[value])));
    });
    groups.push(box);
  });
  if (!groups.length) return null;
  var panel = element("details.panel", {}, element("summary", {}, "Facets"));
  var inside = element("div.facets", {});
  groups.forEach(function (group) { inside.append(group); });
  panel.append(inside);
  return panel;
};

// ---- downloads of what is shown
function csvCell(value) {
  var text = String(value === null || value === undefined ? "" : value);
  if (typeof value !== "number" && /^[=+\-@\t\r|%\uff1d\uff0b\uff0d\uff20]/.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
}
function latex(text) {
  return String(text).replace(/[\\{}$&#^_%~]/g, function (c) {
    return { "\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}" }[c] || "\\" + c;
  }).replace(/\u2013/g, "--").replace(/\u2212/g, "$-$").replace(/\u00b1/g, "$\\pm$");
}
Board.prototype.view = function () {
  var self = this, shown = this.headers.map(function (header, i) { return { name: header.getAttribute("data-name"), at: i }; })
    .filter(function (one) { return one.name; });
  return all("tbody tr[data-i]", this.table).filter(function (row) { return !row.hidden; }).map(function (row) {
    var line = { submission: row.fact.submission || "", revision: row.fact.revision || "", row: row.fact.row || "submission" };
    shown.forEach(function (one) {
      var cell = row.cells[one.at], held = cell.getAttribute("data-v"), key = one.name;
      if (key === "Rank") line[key] = (cell.querySelector("b") || { textContent: "" }).textContent;
      else if (key === "Model") line[key] = row.fact.name;
      else if (self.headers[one.at].hasAttribute("data-number")) {
        line[key] = held === "" || held === null ? null : Number(held);
        var ends = /\[(.+), (.+)\]/.exec(cell.textContent), half = /\u00b1([0-9.]+)/.exec(cell.textContent);
        if (ends) { line[key + " low"] = Number(ends[1].replace("\u2212", "-")); line[key + " high"] = Number(ends[2].replace("\u2212", "-")); }
        else if (half) line[key + " \u00b1"] = Number(half[1]);
      } else line[key] = cell.textContent.trim();
    });
    return line;
  });
};
Board.prototype.download = function (kind) {
  var lines = this.view(), keys = [];
  lines.forEach(function (line) { Object.keys(line).forEach(function (key) { if (keys.indexOf(key) < 0) keys.push(key); }); });
  var title = (document.querySelector("h2") || {}).textContent || "board", note = this.changed ? this.changed : "";
  if (kind === "csv") {
    var table = [keys].concat(lines.map(function (line) { return keys.map(function (key) { return line[key]; }); }));
    save("voxelboard.csv", "text/csv", table.map(function (cells) { return cells.map(csvCell).join(","); }).join("\r\n") + "\r\n");
  } else if (kind === "json") {
    save("voxelboard.json", "application/json", JSON.stringify({ title: title, address: location.href, note: note, rows: lines }, null, 1) + "\n");
  } else if (kind === "bib") {
    var data = document.querySelector("code.bibtex");
    save("voxelboard.bib", "application/x-bibtex", lines.filter(function (line) { return line.row !== "baseline"; }).map(function (line) {
      var key = (line.submission + "-" + line.revision.slice(0, 7)).replace(/[^A-Za-z0-9-]+/g, "-");
      return "@misc{" + key + ",\n  title = {" + latex(line.Model) + "},\n  note = {" + latex(line.submission) + ", revision " + latex(line.revision) +
        ", as measured by voxelboard" + (line.Rank ? ", rank " + latex(line.Rank) : "") + "}\n}\n";
    }).join("\n") + (data ? "\n" + data.textContent + "\n" : ""));
  } else {
    var numbers = keys.filter(function (key) { return lines.some(function (line) { return typeof line[key] === "number"; }) && !/ (low|high|\u00b1)$/.test(key) && key !== "Size"; });
    var body = lines.map(function (line) {
      return [latex(line.Model), line.Rank ? latex(line.Rank) : "--"].concat(numbers.map(function (key) {
        if (line[key] === null || line[key] === undefined) return "--";
        var half = line[key + " \u00b1"], low = line[key + " low"];
        return "$" + line[key].toFixed(3) + (half !== undefined ? " \\pm " + half.toFixed(3) : "") + "$" +
          (low !== undefined ? " {\\small $[" + low.toFixed(3) + ", " + line[key + " high"].toFixed(3) + "]$}" : "");
      })).join(" & ") + " \\\\";
    });
    save("voxelboard.tex", "application/x-tex", "% " + location.href + "\n\\begin{tabular}{ll" + "r".repeat(numbers.length) + "}\n\\toprule\nModel & Rank & " +
      numbers.map(latex).join(" & ") + " \\\\\n\\midrule\n" + body.join("\n") + "\n\\bottomrule\n\\end{tabular}\n");
  }
  this.say(lines.length + " rows saved");
};
Board.prototype.menu = function () {
  var self = this, box = element("div.saves", { role: "group", "aria-label": "Download the current view" }, element("span", {}, "Save view:"));
  [["csv", "CSV"], ["json", "JSON"], ["bib", "BibTeX"], ["tex", "LaTeX"]].forEach(function (one) {
    box.append(button(one[1], function () { self.download(one[0]); }));
  });
  return box;
};

Board.prototype.start = function () {
  var self = this, tools = this.box.querySelector(".tools"), more = tools.querySelector(".more");
  this.input = tools.querySelector("input");
  this.input.value = this.noted("q") || "";
  (this.noted("f") || "").split(";").forEach(function (part) {
    var at = part.indexOf(":");
    if (at > 0) self.chosen[part.slice(0, at)] = part.slice(at + 1).split("|");
  });
  this.input.addEventListener("input", function () { self.filter(); });
  this.headers.forEach(function (header, column) {
    var sorter = header.querySelector("button");
    if (sorter) sorter.addEventListener("click", function (event) { self.sortBy(column, event.shiftKey); });
    if (header.getAttribute("aria-sort")) self.order = [{ column: column, direction: header.getAttribute("aria-sort") }];
  });
  [this.facets(), this.rerankPanel(), this.metricPanel(), this.menu()].forEach(function (part) { if (part) more.append(part); });
  tools.hidden = false;
  var sorted = this.noted("s");
  if (sorted) {
    this.order = sorted.split(",").map(function (one) {
      return { column: Math.abs(parseInt(one, 10)), direction: one.charAt(0) === "-" ? "descending" : "ascending" };
    }).filter(function (one) { return self.headers[one.column] && self.headers[one.column].hasAttribute("data-name"); });
    if (this.order.length) this.sort();
  }
  if (this.input.value || Object.keys(this.chosen).length) this.filter();
};
