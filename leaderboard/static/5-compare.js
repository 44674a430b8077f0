// The tray of chosen models, and the page that compares them.
var MAX_COMPARED = 5;
function stem(page) { return page.replace(/^.*\//, "").replace(/\.html$/, ""); }
function chosenModels() { return (readState().c || "").split(",").filter(Boolean).slice(0, MAX_COMPARED); }
function startTray(boards) {
  var ticks = {};
  var tray = element("div.tray", { role: "region", "aria-label": "Models to compare" });
  tray.hidden = true;
  boards.forEach(function (board) {
    board.rows.forEach(function (row) {
      var link = row.cells[1].querySelector("a"), name = stem(link.getAttribute("href")), tick = element("input.pick", { type: "checkbox", "aria-label": "Compare " + row.fact.name });
      tick.addEventListener("change", function () {
        var held = chosenModels().filter(function (one) { return one !== name; });
        if (tick.checked && held.length >= MAX_COMPARED) { tick.checked = false; board.say("Five models at most"); return; }
        if (tick.checked) held.push(name);
        writeState({ c: held.join(",") });
        draw();
      });
      row.cells[1].prepend(tick);
      (ticks[name] = ticks[name] || []).push({ tick: tick, label: row.fact.name });
    });
  });
  function draw() {
    var held = chosenModels().filter(function (name) { return ticks[name]; });
    Object.keys(ticks).forEach(function (name) { ticks[name].forEach(function (one) { one.tick.checked = held.indexOf(name) >= 0; }); });
    tray.textContent = "";
    tray.hidden = !held.length;
    document.body.classList.toggle("trayed", held.length > 0);
    held.forEach(function (name) {
      var gone = button("\u00d7", function () { writeState({ c: held.filter(function (one) { return one !== name; }).join(",") }); draw(); }, "quiet");
      gone.setAttribute("aria-label", "Remove " + ticks[name][0].label);
      tray.append(element("span.picked", {}, element("bdi", {}, ticks[name][0].label), " ", gone));
    });
    tray.append(held.length > 1 ? element("a.go", { href: root + "compare.html#c=" + encodeURIComponent(held.join(",")) }, "Compare " + held.length + " models") : element("span.sub", {}, "Choose another one to compare"));
  }
  document.body.append(tray);
  draw();
}
function startCompare() {
  var section = document.getElementById("compare"), data = json(document.getElementById("compare-data"));
  if (!section || !data || data.models.length < 2) return;
  section.hidden = false;
  var byStem = {}, picker = section.querySelector(".picker"), live = section.querySelector("output"), results = section.querySelector(".results");
  data.models.forEach(function (model) { byStem[stem(model.page)] = model; });
  var select = element("select", { id: "add-model" });
  var names = Object.keys(byStem), first = names[0];
  names.sort(function (a, b) { return byStem[a].name.localeCompare(byStem[b].name, "en"); });
  [["Models", "submission"], ["Rulers", "baseline"]].forEach(function (kind) {
    var mine = names.filter(function (name) { return byStem[name].row === kind[1]; }), group = element("optgroup", { label: kind[0] });
    mine.forEach(function (name) { group.append(element("option", { value: name }, byStem[name].name + " \u00b7 " + byStem[name].sub)); });
    if (mine.length) select.append(group);
  });
  select.value = first;
  function held() { return chosenModels().filter(function (name) { return byStem[name]; }); }
  function set(list) { writeState({ c: list.join(",") }); draw(); }
  var add = button("Add", function () {
    var now = held();
    if (now.indexOf(select.value) >= 0) live.textContent = "Already there";
    else if (now.length >= MAX_COMPARED) live.textContent = "Five models at most";
    else set(now.concat([select.value]));
  });
  var list = element("ol.compared", {});
  picker.append(element("div.slide", {}, element("label", { for: select.id }, "Model"), select, add), list);
  function draw() {
    var now = held();
    list.textContent = "";
    now.forEach(function (name, i) {
      var one = element("li", {}, element("a", { href: root + byStem[name].page }, byStem[name].name), i === 0 ? element("small", {}, " reference") : button("Make reference", function () { set([name].concat(now.filter(function (x) { return x !== name; }))); }, "quiet"));
      var gone = button("Remove", function () { set(now.filter(function (x) { return x !== name; })); }, "quiet");
      gone.setAttribute("aria-label", "Remove " + byStem[name].name);
      one.append(gone);
      list.append(one);
    });
    results.textContent = "";
    if (now.length < 2) { live.textContent = now.length ? "Add another model." : "Add two models; the first one is the reference."; return; }
    live.textContent = "Each model minus " + byStem[now[0]].name + ".";
    Promise.all(data.tables.map(function (table, t) {
      var here = now.filter(function (name) { return byStem[name].in.indexOf(t) >= 0; });
      if (here.length < 2 || here[0] !== now[0]) return null;
      return load(table.script).then(function (shipped) { return compareTable(table.label, shipped, here, byStem); }, function (error) { return element("p.sub", {}, table.label + ": " + error.message); });
    })).then(function (parts) {
      if (held().join() !== now.join()) return;
      results.textContent = "";
      parts.filter(Boolean).forEach(function (part) { results.append(part); });
      if (!results.childNodes.length) live.textContent = "No table holds the reference and another of these models.";
    });
  }
  draw();
}
function subjectTable(shipped, model, region) {
  var values = [], S = 0;
  model.z.forEach(function (subject) {
    var use = subject.r.map(function (_, at) { return at; }).filter(function (at) { return region === null || subject.r[at] === region; });
    if (!use.length) return;
    var held = floats(subject.v);
    for (var b = 0; b < shipped.blocks; b++) { var sum = 0; use.forEach(function (at) { sum += held[at * shipped.blocks + b]; }); values.push(sum / use.length); }
    S += 1;
  });
  return S ? decompose({ S: S, B: shipped.blocks, v: values }) : null;
}
function pairedDifference(a, b) {
  var d = minus(a, b), one = tableInterval(d);
  one.p = tTwoSided(Math.abs(d.mean) <= 1e-12 ? 0 : d.mean / one.se, one.df);
  return one;
}
function compareTable(label, shipped, here, byStem) {
  var find = function (name) { return shipped.models.filter(function (model) { return stem(model.page) === name; })[0]; };
  var reference = find(here[0]), others = here.slice(1), section = element("section", {}, element("h3", {}, label));
  var overall = others.map(function (name) { return pairedDifference(subjectTable(shipped, find(name), null), subjectTable(shipped, reference, null)); });
  var adjusted = holm(overall.map(function (one) { return one.p; }));
  overall.forEach(function (one, i) { one.name = byStem[others[i]].name; one.adjusted = adjusted[i]; });
  section.append(element("p.sub", {}, (shipped.subjects.length < MIN_RANDOM_SUBJECTS ? "Intervals are about these " + shipped.subjects.length + " people and new stimuli." : "Intervals are about new people and new stimuli.") + " p is two-sided, Holm over the models shown."));
  section.append(element("figure", {}, forest(overall, shipped.unit)), pairTable(overall));
  var regions = shipped.regions.map(function (_, r) { return r; }).filter(function (r) { return subjectTable(shipped, reference, r); });
  if (regions.length > 1 && regions.length <= 40) {
    var head = element("tr", {}, element("th", { scope: "col" }, "Region")), body = element("tbody", {});
    others.forEach(function (name) { head.append(element("th.n", { scope: "col" }, byStem[name].name)); });
    regions.forEach(function (r) {
      var row = element("tr", {}, element("th", { scope: "row" }, shipped.regions[r]));
      others.forEach(function (name) {
        var one = pairedDifference(subjectTable(shipped, find(name), r), subjectTable(shipped, reference, r));
        var sure = one.low > 0 || one.high < 0;
        row.append(element("td.n" + (sure ? ".yes" : ".tie"), {}, sure ? element("b", {}, signed(one.estimate)) : signed(one.estimate), " ", element("small", {}, bounds(one))));
      });
      body.append(row);
    });
    section.append(element("h4", {}, "By region"), element("p.sub", {}, "Bold where the 95 % interval of this difference by itself leaves 0 out."), element("div.scroll", { tabindex: 0, role: "region", "aria-label": "Differences by region, " + label }, element("table.plain", {}, element("thead", {}, head), body)));
  }
  return section;
}
function forest(list, unit) {
  var ends = [0].concat(list.map(function (one) { return one.low; }), list.map(function (one) { return one.high; }));
  var low = Math.min.apply(null, ends), high = Math.max.apply(null, ends), air = 0.06 * (high - low) || 0.01;
  low -= air; high += air;
  var left = 130, width = 460, row = 24, top = 8, bottom = top + row * list.length;
  var x = function (value) { return left + ((value - low) / (high - low)) * (width - left - 10); };
  var picture = svg("svg", { class: "plot", viewBox: "0 0 " + width + " " + (bottom + 34), width: width, height: bottom + 34, role: "img" },
    svg("title", {}, "Paired differences with 95 % intervals"), svg("desc", {}, list.map(function (one) { return one.name + " " + signed(one.estimate) + " " + bounds(one); }).join("; ")),
    svg("line", { x1: x(0), x2: x(0), y1: 2, y2: bottom, class: "r zero" }));
  list.forEach(function (one, i) {
    var y = top + row * (i + 0.5), sure = one.adjusted <= 0.05, name = one.name.length > 20 ? one.name.slice(0, 19) + "\u2026" : one.name;
    picture.append(svg("text", { x: left - 8, y: y + 4, class: "t e" }, name), svg("line", { x1: x(one.low), x2: x(one.high), y1: y, y2: y, class: "whisker" + (sure ? " strong" : "") }), svg("circle", { cx: x(one.estimate), cy: y, r: 4, class: sure ? "pt" : "dot" }));
  });
  picture.append(svg("line", { x1: left, x2: width - 10, y1: bottom + 2, y2: bottom + 2, class: "ax" }));
  [low + air, 0, high - air].forEach(function (value, i) {
    if (i !== 1 && Math.abs(x(value) - x(0)) < 40) return;
    picture.append(svg("text", { x: x(value), y: bottom + 16, class: "t m q" }, number(value)));
  });
  picture.append(svg("text", { x: (left + width) / 2, y: bottom + 30, class: "t m q" }, "difference in " + unit));
  return picture;
}
function pairTable(list) {
  var body = element("tbody", {});
  list.forEach(function (one) {
    body.append(element("tr", {}, element("th", { scope: "row" }, one.name), element("td.n", {}, element("b", {}, signed(one.estimate)), " ", element("small", {}, bounds(one))), element("td.n", {}, one.p < 1e-4 ? one.p.toExponential(1) : one.p.toFixed(4)), element("td.n", {}, one.adjusted < 1e-4 ? one.adjusted.toExponential(1) : one.adjusted.toFixed(4))));
  });
  return element("table.plain", {}, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Model"), element("th.n", { scope: "col" }, "Difference"), element("th.n", { scope: "col" }, "p"), element("th.n", { scope: "col" }, "p (Holm)"))), body);
}
