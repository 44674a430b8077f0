// Small tools: elements, numbers, files beside the page, state in the address.
var root = document.documentElement.getAttribute("data-root") || "";
function each(list, f) { Array.prototype.forEach.call(list, f); }
function all(selector, inside) { return Array.prototype.slice.call((inside || document).querySelectorAll(selector)); }
// element("button.small", {type: "button"}, "text" or element ...)
function element(name, attributes) {
  var parts = name.split("."), made = document.createElement(parts[0]);
  if (parts.length > 1) made.className = parts.slice(1).join(" ");
  fill(made, attributes, Array.prototype.slice.call(arguments, 2));
  return made;
}
function svg(name, attributes) {
  var made = document.createElementNS("http://www.w3.org/2000/svg", name);
  fill(made, attributes, Array.prototype.slice.call(arguments, 2));
  return made;
}
function fill(made, attributes, children) {
  Object.keys(attributes || {}).forEach(function (key) { if (attributes[key] !== null) made.setAttribute(key, attributes[key]); });
  children.forEach(function (child) { if (child !== null && child !== undefined) made.append(child); });
}
function button(text, act, className) {
  var made = element("button" + (className ? "." + className : ""), { type: "button" }, text);
  made.addEventListener("click", act);
  return made;
}
function number(value, digits) {
  var text = value.toFixed(digits === undefined ? 3 : digits);
  if (text.charAt(0) !== "-") return text;
  return Number(text) === 0 ? text.slice(1) : "\u2212" + text.slice(1);
}
function signed(value) { return (value > 0 && Number(value.toFixed(3)) > 0 ? "+" : "") + number(value); }
function bounds(one) { return "[" + number(one.low) + ", " + number(one.high) + "]"; }
function spread(low, high) { return low === high ? String(low) : low + "\u2013" + high; }
function json(node) { return node ? JSON.parse(node.textContent) : null; }
function floats(text) {
  var raw = atob(text), bytes = new Uint8Array(raw.length);
  for (var i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}
var loading = {};
// A classic script beside the page, once: from file:// neither fetch nor modules can read it.
function load(name) {
  if (!loading[name]) {
    loading[name] = new Promise(function (done, failed) {
      var script = document.createElement("script");
      script.src = root + name;
      script.onload = function () {
        var value = (window.voxelboard || {})[name];
        if (value === undefined) failed(new Error("no data in " + name)); else done(value);
      };
      script.onerror = function () { failed(new Error("cannot load " + name)); };
      document.head.appendChild(script);
    });
  }
  return loading[name];
}
// The address holds the state: #q=llama&s=-3. An anchor (#read) has no "=".
function readState() {
  var text = location.hash.slice(1), state = {};
  if (text.indexOf("=") < 0) return state;
  text.split("&").forEach(function (pair) {
    var at = pair.indexOf("=");
    try { state[pair.slice(0, at)] = decodeURIComponent(pair.slice(at + 1)); } catch (error) { /* a cut address */ }
  });
  return state;
}
function writeState(changes) {
  var state = readState();
  Object.keys(changes).forEach(function (key) { if (changes[key]) state[key] = changes[key]; else delete state[key]; });
  var text = Object.keys(state).sort().map(function (key) { return key + "=" + encodeURIComponent(state[key]); }).join("&");
  try { history.replaceState(null, "", text ? "#" + text : location.pathname + location.search); } catch (error) { /* odd schemes */ }
}
function save(name, type, text) {
  var link = element("a", { download: name, href: URL.createObjectURL(new Blob([text], { type: type })) });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
}
function later(f, wait) { var timer; return function () { clearTimeout(timer); timer = setTimeout(f, wait); }; }
