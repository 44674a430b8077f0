// Ranking again in the browser: other weights of tasks, other people, one region. The published ranks stay one click away.
Board.prototype.rerankPanel = function () {
  var source = this.box.getAttribute("data-source"), self = this;
  if (!source) return null;
  var overview = this.kind === "overview", panel = element("details.panel", {}, element("summary", {}, overview ? "Weights" : "People and regions"));
  var inside = element("div.choose", {}, element("p.sub", {}, "Loading \u2026"));
  panel.append(inside);
  function open() {
    if (self.shipped) return Promise.resolve();
    return load(source).then(function (data) {
      self.shipped = data;
      inside.textContent = "";
      if (overview) self.weightControls(inside); else self.partControls(inside);
    }, function (error) { inside.textContent = error.message; });
  }
  panel.addEventListener("toggle", function () { if (panel.open) open(); });
  if (this.noted("w") || this.noted("p") || this.noted("r")) {
    open().then(function () { if (self.shipped) { panel.open = true; self.rerank(); } });
  }
  return panel;
};
Board.prototype.weightControls = function (inside) {
  var self = this, held = (this.noted("w") || "").split(",");
  this.sliders = this.shipped.columns.map(function (column, k) {
    var value = held.length === self.shipped.columns.length ? Number(held[k]) : column.weight * self.countedTasks();
    var slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, id: self.box.id + "-w" + k });
    slider.value = isFinite(value) ? value : 0;
    slider.disabled = column.weight === 0 && /, not in the mean$/.test(column.outside) && !/^a profile/.test(column.outside);
    var out = element("output", { for: slider.id }, Number(slider.value).toFixed(2));
    slider.addEventListener("input", function () { out.textContent = Number(slider.value).toFixed(2); self.rerankSoon(); });
    inside.append(element("div.slide", {}, element("label", { for: slider.id }, column.task, element("small", {}, column.label + (column.outside ? ", " + column.outside : ""))), slider, out));
    return slider;
  });
  inside.append(button("Published weights", function () { self.reset(); }, "quiet"));
};
Board.prototype.countedTasks = function () {
  var most = Math.max.apply(null, this.shipped.columns.map(function (column) { return column.weight; }));
  return most > 0 ? 1 / most : 1;
};
Board.prototype.partControls = function (inside) {
  var self = this, data = this.shipped, left = (this.noted("p") || "").split(",").filter(Boolean).map(Number);
  var people = element("fieldset", {}, element("legend", {}, "People"));
  this.people = data.subjects.map(function (subject, s) {
    var tick = element("input", { type: "checkbox" });
    tick.checked = left.indexOf(s) < 0;
    tick.addEventListener("change", function () { self.rerankSoon(); });
    people.append(element("label", {}, tick, " ", element("bdi", {}, subject)));
    return tick;
  });
  this.region = element("select", { id: self.box.id + "-roi" }, element("option", { value: "" }, "all that enter (published)"));
  data.regions.forEach(function (region, r) { self.region.append(element("option", { value: r }, region)); });
  this.region.value = this.noted("r") || "";
  this.region.addEventListener("change", function () { self.rerankSoon(); });
  inside.append(people, element("div.slide", {}, element("label", { for: this.region.id }, "Region"), this.region), button("Published choice", function () { self.reset(); }, "quiet"));
};
Board.prototype.rerankSoon = function () {
  if (!this.soon) this.soon = later(this.rerank.bind(this), 60);
  this.soon();
};
Board.prototype.reset = function () {
  var self = this;
  if (this.sliders) this.sliders.forEach(function (slider, k) {
    slider.value = self.shipped.columns[k].weight * self.countedTasks();
    slider.parentNode.querySelector("output").textContent = Number(slider.value).toFixed(2);
  });
  if (this.people) { this.people.forEach(function (tick) { tick.checked = true; }); this.region.value = ""; }
  this.rerank();
};
// decomposed tables of each model for the present choice: [column][model], null where a model has none
Board.prototype.tables = function () {
  var data = this.shipped, self = this;
  if (this.kind === "overview") {
    if (!this.cache) this.cache = data.columns.map(function (column) {
      return column.z.map(function (text) {
        if (text === null) return null;
        return decompose({ S: column.subjects.length, B: column.blocks, v: floats(text) });
      });
    });
    return { columns: this.cache, weights: this.sliders.map(function (slider) { return Number(slider.value); }) };
  }
  var region = this.region.value === "" ? null : Number(this.region.value);
  var column = data.models.map(function (model) {
    var values = [], S = 0;
    model.z.forEach(function (subject, s) {
      if (!self.people[s].checked) return;
      var use = subject.r.map(function (r, at) { return at; }).filter(function (at) { return region === null || subject.r[at] === region; });
      if (!use.length) return;
      var held = floats(subject.v);
      for (var b = 0; b < data.blocks; b++) {
        var sum = 0;
        use.forEach(function (at) { sum += held[at * data.blocks + b]; });
        values.push(sum / use.length);
      }
      S += 1;
    });
    return S ? decompose({ S: S, B: data.blocks, v: values }) : null;
  });
  return { columns: [column], weights: [1] };
};
Board.prototype.published = function () {
  var self = this;
  if (this.sliders) return this.sliders.every(function (slider, k) { return Math.abs(Number(slider.value) - self.shipped.columns[k].weight * self.countedTasks()) < 0.026; });
  return this.people.every(function (tick) { return tick.checked; }) && this.region.value === "";
};
Board.prototype.rerank = function () {
  if (!this.before) this.remember();
  if (this.sliders) this.note("w", this.published() ? "" : this.sliders.map(function (slider) { return Number(slider.value); }).join(","));
  else {
    this.note("p", this.people.map(function (tick, s) { return tick.checked ? "" : String(s); }).filter(Boolean).join(","));
    this.note("r", this.region.value);
  }
  if (this.published()) { this.restore(); return; }
  var chosen = this.tables(), used = chosen.weights.map(function (w, k) { return w > 0 ? k : -1; }).filter(function (k) { return k >= 0; });
  if (!used.length || !chosen.columns[0].some(Boolean)) { this.restore(); this.say("Nothing is left to rank by"); return; }
  var self = this, whole = this.shipped.models.map(function (model, m) { return used.every(function (k) { return chosen.columns[k][m]; }) ? m : -1; }).filter(function (m) { return m >= 0; });
  var entrants = whole.filter(function (m) { return self.shipped.models[m].row === "submission"; });
  var total = chosen.weights.reduce(function (a, b) { return a + b; }, 0), result = null;
  if (entrants.length) result = rankOverall(chosen.columns.map(function (column) { return entrants.map(function (m) { return column[m]; }); }), chosen.weights);
  var byPage = {};
  whole.forEach(function (m) {
    var at = entrants.indexOf(m), parts = used.map(function (k) { return chosen.columns[k][m]; });
    var score = at >= 0 ? result.scores[at] : overallInterval(parts, used.map(function (k) { return chosen.weights[k] / total; }));
    byPage[self.shipped.models[m].page] = { score: score, low: at >= 0 ? result.low[at] : 0, high: at >= 0 ? result.high[at] : 0, have: used.length };
  });
  this.shipped.models.forEach(function (model, m) {
    if (!byPage[model.page]) byPage[model.page] = { score: null, low: 0, have: used.filter(function (k) { return chosen.columns[k][m]; }).length };
  });
  this.show(byPage, entrants.length, used.length);
  var S = used.map(function (k) { var first = chosen.columns[k].filter(Boolean)[0]; return first ? first.S : 0; });
  this.changed = "Ranked in this browser for your choice, from the shipped influence values" +
    (S.some(function (n) { return n < MIN_RANDOM_SUBJECTS; }) ? "; with fewer than five people intervals are about these people only" : "") + ".";
  this.banner();
  this.say(entrants.length + " models ranked again");
};
Board.prototype.remember = function () {
  this.before = this.rows.map(function (row) {
    return { row: row, body: row.parentNode, place: row.getAttribute("data-i"), rank: row.cells[0].cloneNode(true), score: row.cells[2].cloneNode(true),
      bar: row.cells[3].cloneNode(true), state: all(".state", row.cells[1]).map(function (one) { return one.textContent; }) };
  });
};
Board.prototype.restore = function () {
  if (!this.before) return;
  this.before.forEach(function (one) {
    one.row.cells[0].replaceWith(one.rank.cloneNode(true));
    one.row.cells[2].replaceWith(one.score.cloneNode(true));
    one.row.cells[3].replaceWith(one.bar.cloneNode(true));
    var extra = one.row.cells[1].querySelector(".state.again");
    if (extra) extra.remove();
    one.body.append(one.row);
  });
  this.changed = "";
  this.table.classList.remove("again");
  this.banner();
  this.sort();
  this.say("The published ranks");
};
Board.prototype.show = function (byPage, M, n) {
  var self = this, ranked = this.table.tBodies[0], off = this.table.querySelector("tbody.off");
  if (!off) {
    off = element("tbody.off", { "data-sortable": "" }, element("tr.group", { "data-head": "" }, element("th", { colspan: this.headers.length, scope: "rowgroup" }, element("span", {}, "Not ranked"))));
    ranked.after(off);
  }
  var axis = this.axis();
  this.rows.forEach(function (row) {
    var link = row.cells[1].querySelector("a"), held = byPage[link.getAttribute("href").slice(root.length)], baseline = row.fact.row === "baseline";
    var extra = row.cells[1].querySelector(".state.again");
    if (extra) extra.remove();
    if (!held || !held.score) {
      self.put(row, null, axis);
      if (!baseline) {
        off.append(row);
        if (held && !row.cells[1].querySelector(".state")) row.cells[1].append(element("span.state.again", {}, "partial " + held.have + "/" + n + ", unranked"));
      }
      return;
    }
    self.put(row, held, axis, M);
    if (!baseline) (held.low ? ranked : off).append(row);
  });
  this.table.classList.add("again");
  this.sort();
};
Board.prototype.axis = function () {
  var held = (this.headers[3].querySelector("svg") || { getAttribute: function () { return null; } }).getAttribute("data-axis");
  if (!held) return null;
  var p = held.split(" ").map(Number);
  return function (value) { return p[2] + Math.min(Math.max((value - p[0]) / (p[1] - p[0]), 0), 1) * (p[3] - p[2]); };
};
Board.prototype.put = function (row, held, axis, M) {
  var rank = row.cells[0], score = row.cells[2], bar = row.cells[3];
  rank.textContent = score.textContent = bar.textContent = "";
  if (!held) {
    rank.setAttribute("data-v", ""); score.setAttribute("data-v", "");
    rank.append(element("span.none", {}, "\u2013")); score.append(element("span.none", {}, "\u2013"));
    return;
  }
  rank.setAttribute("data-v", held.low || "");
  if (held.low) rank.append(element("b", {}, spread(held.low, held.high)), rail(held.low, held.high, M)); else rank.append(element("span.none", {}, "\u2013"));
  score.setAttribute("data-v", held.score.estimate.toFixed(6));
  score.append(element("b", {}, number(held.score.estimate)), " ", element("small", {}, bounds(held.score)));
  if (axis) bar.append(scoreBar(axis, held.score));
};
Board.prototype.banner = function () {
  var old = this.box.querySelector(".yours");
  if (old) old.remove();
  if (!this.changed) return;
  var self = this;
  this.box.querySelector(".tools").after(element("p.yours", {}, this.changed + " ", button("Show the published ranks", function () { self.reset(); }, "quiet")));
};
function rail(low, high, M) {
  var x = function (rank) { return M > 1 ? 5 + ((rank - 1) / (M - 1)) * 62 : 5; };
  return svg("svg", { class: "rank", viewBox: "0 0 72 10", width: 72, height: 10, role: "img" }, svg("title", {}, low === high ? "rank " + low + " of " + M : "ranks " + low + " to " + high + " of " + M),
    svg("line", { x1: 5, y1: 5, x2: 67, y2: 5, class: "rail" }), svg("rect", { x: x(low) - 4, y: 1, width: x(high) - x(low) + 8, height: 8, rx: 4, class: "span" }));
}
function scoreBar(axis, score) {
  var left = axis(score.low), right = axis(score.high);
  return svg("svg", { class: "bar", viewBox: "0 0 220 26", width: 220, height: 26, role: "img" }, svg("title", {}, "score: " + number(score.estimate) + " " + bounds(score)),
    svg("line", { x1: axis(0), y1: -60, x2: axis(0), y2: 86, class: "r zero" }), svg("rect", { x: left, y: 9, width: Math.max(right - left, 1), height: 8, rx: 4, class: "ci" }),
    svg("circle", { cx: axis(score.estimate), cy: 13, r: 3.6, class: "pt" }));
}
// ---- what the task cells of an overview show
Board.prototype.metricPanel = function () {
  if (this.kind !== "overview") return null;
  var self = this, pick = element("select", { id: this.box.id + "-metric" });
  [["v", "beyond confounds"], ["w", "raw, with confounds"], ["r", "raw r"]].forEach(function (one) { pick.append(element("option", { value: one[0] }, one[1])); });
  this.cells = all("td[data-w]", this.table).map(function (cell) {
    return { cell: cell, v: cell.getAttribute("data-v"), w: cell.getAttribute("data-w"), r: cell.getAttribute("data-r"), kept: Array.prototype.slice.call(cell.childNodes), heat: cell.className };
  });
  function apply() {
    var tops = {};
    self.cells.forEach(function (one) { var at = one.cell.cellIndex; tops[at] = Math.max(tops[at] || 0, Number(one[pick.value]) || 0); });
    self.cells.forEach(function (one) {
      var value = one[pick.value];
      one.cell.setAttribute("data-v", value);
      one.cell.textContent = "";
      if (pick.value === "v") { one.kept.forEach(function (node) { one.cell.append(node); }); one.cell.className = one.heat; return; }
      one.cell.append(value === "" ? "\u2013" : number(Number(value)));
      one.cell.className = "h" + (value === "" ? 0 : Math.round(9 * Math.min(Math.max(Number(value) / (tops[one.cell.cellIndex] || 1), 0), 1)));
    });
    self.note("m", pick.value === "v" ? "" : pick.value);
    self.sort();
  }
  pick.addEventListener("change", apply);
  if (/^[wr]$/.test(this.noted("m") || "")) { pick.value = this.noted("m"); setTimeout(apply, 0); }
  return element("div.metric", {}, element("label", { for: pick.id }, "Cells show"), " ", pick);
};
