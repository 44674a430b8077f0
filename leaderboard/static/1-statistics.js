// Ranks and intervals from influence values, as in benchmark/statistics (ranking.py, overall.py, intervals.py).
// A table is {S, B, v}: S subjects times B blocks, v row by row. A browser test holds the results against Python's.
function lnGamma(x) {
  var c = [0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - lnGamma(1 - x);
  x -= 1;
  var a = c[0], t = x + 7.5;
  for (var i = 1; i < 9; i++) a += c[i] / (x + i);
  return 0.5 * Math.log(2 * Math.PI) + (x + 0.5) * Math.log(t) - t + Math.log(a);
}
// continued fraction of the incomplete beta function (Lentz)
function betaFraction(a, b, x) {
  var tiny = 1e-300, c = 1, d = 1 - ((a + b) * x) / (a + 1);
  if (Math.abs(d) < tiny) d = tiny;
  d = 1 / d;
  var h = d;
  for (var m = 1; m <= 500; m++) {
    var even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 + even * d; if (Math.abs(d) < tiny) d = tiny;
    c = 1 + even / c; if (Math.abs(c) < tiny) c = tiny;
    d = 1 / d; h *= d * c;
    var odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 + odd * d; if (Math.abs(d) < tiny) d = tiny;
    c = 1 + odd / c; if (Math.abs(c) < tiny) c = tiny;
    d = 1 / d;
    var step = d * c;
    h *= step;
    if (Math.abs(step - 1) < 1e-15) break;
  }
  return h;
}
function betaI(a, b, x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  var front = Math.exp(lnGamma(a + b) - lnGamma(a) - lnGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
  return x < (a + 1) / (a + b + 2) ? (front * betaFraction(a, b, x)) / a : 1 - (front * betaFraction(b, a, 1 - x)) / b;
}
// two-sided p of a t value
function tTwoSided(t, df) {
  if (t === 0) return 1;
  if (!isFinite(t)) return 0;
  return betaI(df / 2, 0.5, df / (df + t * t));
}
// t with P(|T| <= t) = 0.95, by bisection
function tQuantile(df) {
  var low = 0, high = 1e6;
  for (var i = 0; i < 200 && high - low > 1e-13 * high; i++) {
    var middle = (low + high) / 2;
    if (tTwoSided(middle, df) > 0.05) low = middle; else high = middle;
  }
  return (low + high) / 2;
}
function holm(p) {
  var order = p.map(function (_, i) { return i; }).sort(function (a, b) { return p[a] - p[b]; });
  var adjusted = new Float64Array(p.length), worst = 0;
  order.forEach(function (i, place) {
    worst = Math.max(worst, (p.length - place) * p[i]);
    adjusted[i] = Math.min(1, worst);
  });
  return adjusted;
}
function sampleVariance(values) {
  var mean = 0, sum = 0, i;
  for (i = 0; i < values.length; i++) mean += values[i];
  mean /= values.length;
  for (i = 0; i < values.length; i++) sum += (values[i] - mean) * (values[i] - mean);
  return sum / (values.length - 1);
}
// means of a table and what is left when they are taken out; all are linear, so those of a difference are differences
function decompose(table) {
  var S = table.S, B = table.B, v = table.v, rows = new Float64Array(S), columns = new Float64Array(B), mean = 0, s, b;
  for (s = 0; s < S; s++) for (b = 0; b < B; b++) { rows[s] += v[s * B + b] / B; columns[b] += v[s * B + b] / S; }
  for (s = 0; s < S; s++) mean += rows[s] / S;
  var rest = new Float64Array(S * B);
  for (s = 0; s < S; s++) for (b = 0; b < B; b++) rest[s * B + b] = v[s * B + b] - rows[s] - columns[b] + mean;
  return { S: S, B: B, rows: rows, columns: columns, mean: mean, rest: rest };
}
function minus(x, y) {
  function each(a, b) { var out = new Float64Array(a.length); for (var i = 0; i < a.length; i++) out[i] = a[i] - b[i]; return out; }
  var mean = x.mean - y.mean;
  return { S: x.S, B: x.B, rows: each(x.rows, y.rows), columns: each(x.columns, y.columns), mean: mean, rest: each(x.rest, y.rest) };
}
var MIN_RANDOM_SUBJECTS = 5;
function variances(d) {
  var blocks = sampleVariance(d.columns) / d.B;
  if (d.S < MIN_RANDOM_SUBJECTS) return { subjects: 0, blocks: blocks, residual: 0, total: blocks };
  var subjects = sampleVariance(d.rows) / d.S, squares = 0;
  for (var i = 0; i < d.rest.length; i++) squares += d.rest[i] * d.rest[i];
  var residual = squares / ((d.S - 1) * (d.B - 1)) / (d.S * d.B);
  return { subjects: subjects, blocks: blocks, residual: residual, total: Math.max(subjects + blocks - residual, subjects, blocks) };
}
function pooledDf(parts, S, B) {
  if (S < MIN_RANDOM_SUBJECTS || !parts.length) return B - 1;
  var a = 0, b = 0, ab = 0, v = 0;
  parts.forEach(function (p) { a += p.subjects; b += p.blocks; ab += p.residual; v += p.total; });
  var n = parts.length; a /= n; b /= n; ab /= n; v /= n;
  var spread = (a * a) / (S - 1) + (b * b) / (B - 1) + (ab * ab) / ((S - 1) * (B - 1));
  return spread === 0 ? Math.min(S, B) - 1 : Math.max(1, (v * v) / spread);
}
function interval(estimate, se, df) {
  var half = tQuantile(df) * se;
  return { estimate: estimate, se: se, df: df, low: estimate - half, high: estimate + half };
}
function tableInterval(d) {
  var v = variances(d);
  return interval(d.mean, Math.sqrt(v.total), pooledDf([v], d.S, d.B));
}
function satterthwaite(parts, dfs) {
  var sum = 0, spread = 0;
  parts.forEach(function (p, i) { sum += p; spread += (p * p) / dfs[i]; });
  return spread > 0 ? (sum * sum) / spread : Math.min.apply(null, dfs);
}
function overallInterval(parts, shares) {
  var each = parts.map(tableInterval);
  if (each.length === 1) return each[0];
  var estimate = 0, squares = [];
  each.forEach(function (one, i) { estimate += shares[i] * one.estimate; squares.push(Math.pow(shares[i] * one.se, 2)); });
  var se = Math.sqrt(squares.reduce(function (a, b) { return a + b; }, 0));
  return interval(estimate, se, satterthwaite(squares, each.map(function (one) { return one.df; })));
}
// columns[k][m] is the decomposed table of model m in column k; weights are normalised here
function rankOverall(columns, weights) {
  var total = weights.reduce(function (a, b) { return a + b; }, 0), used = [], shares = [];
  weights.forEach(function (w, k) { if (w > 0) { used.push(columns[k]); shares.push(w / total); } });
  var M = used[0].length, n = (M * (M - 1)) / 2, difference = new Float64Array(n), variance = new Float64Array(n);
  var parts = [], dfs = [];
  used.forEach(function (tables, k) {
    var held = [], at = 0, sum = 0;
    for (var i = 0; i < M; i++) for (var j = i + 1; j < M; j++, at++) {
      var d = minus(tables[i], tables[j]), v = variances(d);
      held.push({ subjects: v.subjects, blocks: v.blocks, residual: v.residual, total: v.total });
      difference[at] += shares[k] * (Math.abs(d.mean) <= 1e-12 ? 0 : d.mean);
      variance[at] += shares[k] * shares[k] * v.total;
      sum += shares[k] * shares[k] * v.total;
    }
    parts.push(n ? sum / n : 0);
    dfs.push(pooledDf(held, tables[0].S, tables[0].B));
  });
  var df = satterthwaite(parts, dfs), p = new Array(n), at, i, j;
  for (at = 0; at < n; at++) p[at] = tTwoSided(difference[at] === 0 ? 0 : difference[at] / Math.sqrt(variance[at]), df);
  var adjusted = holm(p), low = new Array(M).fill(1), high = new Array(M).fill(M);
  for (i = 0, at = 0; i < M; i++) for (j = i + 1; j < M; j++, at++) {
    if (adjusted[at] > 0.05) continue;
    if (difference[at] > 0) { low[j] += 1; high[i] -= 1; } else { low[i] += 1; high[j] -= 1; }
  }
  var scores = [];
  for (i = 0; i < M; i++) scores.push(overallInterval(used.map(function (tables) { return tables[i]; }), shares));
  return { scores: scores, low: low, high: high, df: df, p: adjusted };
}
