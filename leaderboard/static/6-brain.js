// Categories in Okabe and Ito's palette: told apart by people who see red and green alike.
// Flat maps: one shared picture of vertex numbers, coloured from one byte per vertex.
var OUTSIDE = 65535, MISSING = 255;
var CATEGORIES = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8A6D00", "#6B6B6B"];
var MAP_NAMES = { unique: "r beyond confounds", raw: "raw r", layer: "preferred layer", level: "which level wins" };
function bytes(text) {
  var raw = atob(text), out = new Uint8Array(raw.length);
  for (var i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}
function inflate(text) {
  var stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}
function rgb(hex) { return [1, 3, 5].map(function (at) { return parseInt(hex.slice(at, at + 2), 16); }); }
function mix(a, b, share) { return [0, 1, 2].map(function (i) { return Math.round(a[i] + (b[i] - a[i]) * share); }); }
function isDark() { return matchMedia("(prefers-color-scheme: dark)").matches && !matchMedia("print").matches; }
// one hue for amounts; two hues, blue and orange, with grey between for differences
function scale(kind) {
  var dark = isDark();
  if (kind === "difference") return function (share) {
    var middle = dark ? [58, 66, 70] : [236, 236, 232];
    return share < 0 ? mix(middle, dark ? [245, 160, 70] : [166, 82, 0], -share) : mix(middle, dark ? [110, 180, 240] : [0, 92, 160], share);
  };
  return function (share) { return dark ? mix([34, 64, 68], [170, 240, 232], share) : mix([214, 236, 234], [0, 62, 70], share); };
}
function Brain(figure, flat, own, index) {
  this.figure = figure; this.flat = flat; this.own = own;
  this.others = index.filter(function (one) { return one.column === own.column && one.maps !== figure.getAttribute("data-source"); });
  this.out = figure.querySelector("output");
  this.canvas = element("canvas", { width: flat.width, height: flat.height, role: "img" });
  this.build();
  this.draw();
}
Brain.prototype.values = function (map) {
  if (!map.decoded) map.decoded = bytes(map.values);
  return map.decoded;
};
Brain.prototype.build = function () {
  var self = this, id = this.figure.getAttribute("data-column"), controls = this.figure.querySelector(".controls");
  function labelled(text, input, key) { input.id = id + "-" + key; var box = element("span.control", {}, element("label", { for: input.id }, text), " ", input); controls.append(box); return input; }
  this.pick = labelled("Map", element("select", {}), "map");
  Object.keys(MAP_NAMES).forEach(function (name) { if (self.own.maps[name]) self.pick.append(element("option", { value: name }, MAP_NAMES[name])); });
  this.minus = labelled("Minus", element("select", {}, element("option", { value: "" }, "nothing")), "minus");
  this.others.forEach(function (one, i) { self.minus.append(element("option", { value: i }, one.name)); });
  this.threshold = labelled("Threshold", element("input", { type: "range", min: 0, max: 100, step: 1, value: 0 }), "threshold");
  this.thresholdText = element("output", { for: this.threshold.id });
  controls.append(this.thresholdText);
  if (this.own.maps.region) {
    this.borders = element("input", { type: "checkbox" });
    controls.append(element("label.control", {}, this.borders, " Region borders"));
    this.borders.addEventListener("change", function () { self.draw(); });
  }
  [this.pick, this.minus].forEach(function (input) { input.addEventListener("change", function () { self.choose(); }); });
  this.threshold.addEventListener("input", function () { self.draw(); });
  this.canvas.addEventListener("pointermove", function (event) { self.read(event); });
  ["(prefers-color-scheme: dark)", "print"].forEach(function (medium) {
    matchMedia(medium).addEventListener("change", function () { self.draw(); });
  });
  controls.hidden = false;
  var place = this.figure.querySelector(".canvas");
  place.textContent = "";
  place.append(this.canvas);
};
Brain.prototype.choose = function () {
  var self = this, other = this.others[this.minus.value];
  this.other = null;
  if (!other) { this.draw(); return; }
  load(other.maps).then(function (columns) {
    var held = columns.filter(function (one) { return one.column === self.own.column; })[0];
    self.other = held ? held.maps : null;
    self.otherName = other.name;
    self.draw();
  }, function (error) { self.out.textContent = error.message; });
};
// numbers per vertex of what is shown: values, their limits and the kind of scale
Brain.prototype.shown = function () {
  var map = this.own.maps[this.pick.value], codes = this.values(map), n = codes.length, values = new Float32Array(n), i;
  for (i = 0; i < n; i++) values[i] = codes[i] === MISSING ? NaN : map.low + (codes[i] / 254) * (map.high - map.low);
  if (map.labels.length) return { values: values, kind: "category", labels: map.labels };
  if (this.other && this.other[this.pick.value]) {
    var theirs = this.other[this.pick.value], held = this.values(theirs), most = 0;
    for (i = 0; i < n; i++) {
      values[i] = held[i] === MISSING ? NaN : values[i] - (theirs.low + (held[i] / 254) * (theirs.high - theirs.low));
      if (Math.abs(values[i]) > most) most = Math.abs(values[i]);
    }
    return { values: values, kind: "difference", low: -most, high: most };
  }
  // a layer is a share of the last one, and the first is as good an answer as any other
  if (this.pick.value === "layer") return { values: values, kind: "amount", low: 0, high: 1, zero: true };
  return { values: values, kind: "amount", low: Math.min(0, map.low), high: map.high };
};
Brain.prototype.draw = function () {
  var flat = this.flat, shown = this.shown(), context = this.canvas.getContext("2d"), image = context.createImageData(flat.width, flat.height), data = image.data;
  var limit = (Number(this.threshold.value) / 100) * Math.max(Math.abs(shown.low || 0), shown.high || 0), colour = scale(shown.kind), dark = isDark();
  var n = shown.values.length, table = new Uint8Array(3 * n), above = 0, known = 0, top = -Infinity, v;
  var categories = CATEGORIES.map(rgb);
  this.minus.disabled = shown.kind === "category";
  this.threshold.disabled = shown.kind === "category";
  for (v = 0; v < n; v++) {
    var value = shown.values[v], grey = dark ? 62 - (flat.depth[v] * 22) / 255 : 232 - (flat.depth[v] * 36) / 255, c = [grey, grey, grey];
    if (value === value) {
      known += 1;
      if (value > top) top = value;
      if (shown.kind === "category") { c = categories[value % categories.length]; above += 1; }
      else if (Math.abs(value) >= limit && (shown.kind === "difference" || value > 0 || shown.zero)) {
        c = colour(shown.kind === "difference" ? value / (shown.high || 1) : Math.max(0, value) / (shown.high || 1));
        above += 1;
      }
    }
    table[3 * v] = c[0]; table[3 * v + 1] = c[1]; table[3 * v + 2] = c[2];
  }
  var vertices = flat.vertices, region = this.borders && this.borders.checked ? this.values(this.own.maps.region) : null;
  for (var p = 0; p < vertices.length; p++) {
    var vertex = vertices[p];
    if (vertex === OUTSIDE) continue;
    data[4 * p] = table[3 * vertex]; data[4 * p + 1] = table[3 * vertex + 1]; data[4 * p + 2] = table[3 * vertex + 2]; data[4 * p + 3] = 255;
    if (region) {
      var right = vertices[p + 1], below = vertices[p + flat.width], own = region[vertex];
      if ((right !== undefined && right !== OUTSIDE && region[right] !== own) || (below !== undefined && below !== OUTSIDE && region[below] !== own)) {
        data[4 * p] = data[4 * p + 1] = data[4 * p + 2] = dark ? 240 : 20;
      }
    }
  }
  context.putImageData(image, 0, 0);
  this.now = shown;
  var what = MAP_NAMES[this.pick.value] + (shown.kind === "difference" ? ", this model minus " + this.otherName : "");
  this.thresholdText.textContent = shown.kind === "category" ? "" : number(limit);
  this.canvas.setAttribute("aria-label", what + " on the flattened cortex: " + known + " vertices" + (shown.kind === "category" ? "" : ", " + above + " at or above " + number(limit) + ", highest " + number(top)) + ". Values by region are in the table of regions.");
  this.legend(shown, what, colour);
};
Brain.prototype.legend = function (shown, what, colour) {
  var place = this.figure.querySelector(".legend");
  place.textContent = "";
  if (shown.kind === "category") {
    shown.labels.forEach(function (name, i) { place.append(element("span.swatch", {}, swatch(rgb(CATEGORIES[i % CATEGORIES.length])), name)); });
    return;
  }
  var bar = element("canvas.ramp", { width: 160, height: 10, "aria-hidden": "true" }), context = bar.getContext("2d");
  for (var x = 0; x < 160; x++) {
    var share = x / 159;
    context.fillStyle = "rgb(" + colour(shown.kind === "difference" ? 2 * share - 1 : share).join(",") + ")";
    context.fillRect(x, 0, 1, 10);
  }
  var layers = this.pick.value === "layer" && shown.kind === "amount";
  place.append(element("span.swatch", {}, layers ? "first layer" : number(shown.kind === "difference" ? shown.low : 0), bar, layers ? "last layer" : number(shown.high), layers ? ", preferred layer" : " " + what));
};
function swatch(colour) {
  var box = element("canvas", { width: 12, height: 12, "aria-hidden": "true" }), context = box.getContext("2d");
  context.fillStyle = "rgb(" + colour.join(",") + ")";
  context.fillRect(0, 0, 12, 12);
  return box;
}
Brain.prototype.read = function (event) {
  var box = this.canvas.getBoundingClientRect(), x = Math.floor(((event.clientX - box.left) / box.width) * this.flat.width), y = Math.floor(((event.clientY - box.top) / box.height) * this.flat.height);
  var vertex = this.flat.vertices[y * this.flat.width + x];
  if (vertex === undefined || vertex === OUTSIDE) { this.out.textContent = ""; return; }
  var value = this.now.values[vertex], region = this.own.maps.region, name = "";
  if (region) { var code = this.values(region)[vertex]; if (code !== MISSING) name = ", " + region.labels[code]; }
  var text = value !== value ? "not measured" : this.now.kind === "category" ? this.now.labels[value] : number(value);
  this.out.textContent = (vertex < 10242 ? "left" : "right") + " vertex " + (vertex % 10242) + name + ": " + text;
};
function startBrains() {
  var figures = all("figure.brain[data-source]");
  if (!figures.length || typeof DecompressionStream === "undefined") return;
  Promise.all([load("data/fsaverage5.js"), load("data/maps.js")]).then(function (found) {
    var flat = found[0];
    return inflate(flat.vertices).then(function (buffer) {
      var ready = { width: flat.width, height: flat.height, vertices: new Uint16Array(buffer), depth: bytes(flat.sulci) };
      figures.forEach(function (figure) {
        load(figure.getAttribute("data-source")).then(function (columns) {
          var section = figure.closest("section"), heading = section.querySelector("h2").textContent;
          var own = columns.filter(function (one) { return one.column === heading; })[0];
          if (own) figure.brain = new Brain(figure, ready, own, found[1]);
        });
      });
    });
  }).catch(function () { /* the static picture stays */ });
}
