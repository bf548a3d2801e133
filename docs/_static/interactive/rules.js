/* The operators' rules for one axis of one box, and pooling by them, for the interactive figure.
 *
 * A port of roi_numba's `span`, `entries` and `entry` in float64 (in float32 for TensorFlow's edges);
 * tests/test_interactive.py holds it to the library's own results.  A classic script, not a module:
 * browsers load no modules from files, and the built site must work when its pages are opened as
 * files.
 *
 * An axis is a list of bins { low, high, divisor, entries }.  An entry is two neighbouring cells
 * with their weights, { pixel, weight, next, at }.  `low`, `high` and `at` are places on the drawn
 * map, where cell k goes from k to k + 1 and has its value at k + 1/2; `at` is null for entries
 * that are no samples.
 */
"use strict";

globalThis.RoiRules = (() => {
  const CORNER_LIMIT = 2 ** 30;
  const CENTRE = 0.5;

  const onScale = (...values) => values.every((value) => Math.abs(value) <= 2 ** 53);

  const clamped = (value, limit) => Math.min(Math.max(value, -limit), limit);

  function roundHalfAway(value) {
    const size = Math.abs(value);
    const whole = Math.floor(size);
    return Math.sign(value) * (size - whole >= 0.5 ? whole + 1 : whole);
  }

  /* The first of 0..count-1 that holds, all after it holding too; count if none does. */
  function firstThat(count, holds) {
    let [first, end] = [0, count];
    while (first < end) {
      const middle = first + Math.floor((end - first) / 2);
      if (holds(middle)) end = middle;
      else first = middle + 1;
    }
    return first;
  }

  /* Linear interpolation at t where the map's edge repeats for `border` cells, then ends. */
  function clampedTap(t, border, size) {
    const at = t + CENTRE;
    if (!(t >= -border && t <= size - 1 + border)) return { pixel: 0, weight: 0, next: 0, at };
    const inside = Math.max(t, 0);
    const pixel = Math.trunc(inside);
    if (pixel >= size - 1) return { pixel: size - 1, weight: 1, next: 0, at };
    const fraction = inside - pixel;
    return { pixel, weight: 1 - fraction, next: fraction, at };
  }

  /* Linear interpolation at t where zeros surround the map. */
  function fadedTap(t, size) {
    const at = t + CENTRE;
    if (!(t > -1 && t < size)) return { pixel: 0, weight: 0, next: 0, at };
    const pixel = Math.floor(t);
    const fraction = t - pixel;
    return {
      pixel,
      weight: pixel >= 0 ? 1 - fraction : 0,
      next: pixel + 1 < size ? fraction : 0,
      at,
    };
  }

  /* `count` bins made by `bin`, or bins that read nothing if the box is out of range. */
  function axisOf(count, inRange, bin) {
    const nothing = { low: NaN, high: NaN, divisor: 1, entries: [] };
    return Array.from({ length: count }, (_, p) => (inRange ? bin(p) : nothing));
  }

  const range = (first, end, entry) =>
    Array.from({ length: Math.max(end - first, 0) }, (_, i) => entry(first + i));

  function roiPool(low, high, count, size, scale, { rounding, bins }) {
    const [start, end] = [clamped(low * scale, CORNER_LIMIT), clamped(high * scale, CORNER_LIMIT)];
    let cellsOf;
    if (rounding === "none") {
      const stop = clamped((high + 1) * scale, CORNER_LIMIT);
      let width = (stop - start) / count;
      if (bins === "truncate") width = Math.max(Math.floor(width), 1);
      cellsOf = (p) => {
        const first = Math.floor(p * width + start);
        const last = (p + 1) * width + start;
        const binStop = bins === "truncate" ? Math.min(last, stop) : last;
        return [first, stop > start ? Math.ceil(binStop) : first];
      };
    } else {
      const truncated = rounding === "truncate";
      const origin = truncated ? Math.trunc(start) : roundHalfAway(start);
      const cells = truncated
        ? Math.trunc(clamped((high - low) * scale, 2 * CORNER_LIMIT))
        : roundHalfAway(end) - origin + 1;
      const extent = Math.max(cells, 1);
      const width = extent / count;
      const whole = Math.max(Math.floor(width), 1);
      const within = {
        exact: (p) => [Math.floor((p * extent) / count), Math.ceil(((p + 1) * extent) / count)],
        float: (p) => [Math.floor(p * width), Math.ceil((p + 1) * width)],
        truncate: (p) => [p * whole, Math.min((p + 1) * whole, extent)],
      }[bins];
      cellsOf = (p) => within(p).map((cell) => origin + cell);
    }
    return axisOf(count, true, (p) => {
      const [first, last] = cellsOf(p);
      const onMap = [first, last].map((cell) => Math.min(Math.max(cell, 0), size));
      const entries = range(...onMap, (pixel) => ({ pixel, weight: 1, next: 0, at: null }));
      return { low: first, high: last, divisor: entries.length, entries };
    });
  }

  function roiAlign(low, high, count, size, scale, { sampling_ratio, aligned }) {
    const offset = aligned ? 0.5 : 0;
    const [start, end] = [low * scale - offset, high * scale - offset];
    const length = aligned ? end - start : Math.max(end - start, 1);
    const step = length / count;
    const samples = sampling_ratio > 0 ? sampling_ratio : Math.max(Math.ceil(step), 0);
    return axisOf(count, onScale(start, end, end - start), (p) => {
      const position = (k) => start + p * step + ((k + 0.5) * step) / samples;
      const rising = step >= 0;
      const enters = (k) => (rising ? position(k) >= -1 : position(k) <= size);
      const leaves = (k) => (rising ? position(k) > size : position(k) < -1);
      // One sample beyond the map on each side stands for all of them: a maximum may be its 0.
      const first = Math.max(firstThat(samples, enters) - 1, 0);
      const last = Math.min(firstThat(samples, leaves) + 1, samples);
      return {
        low: start + p * step + CENTRE,
        high: start + (p + 1) * step + CENTRE,
        divisor: samples,
        entries: range(first, last, (k) => clampedTap(position(k), 1, size)),
      };
    });
  }

  function roiWarp(low, high, count, size, scale, { sampling_ratio, quantize }) {
    const ends = [low * scale, high * scale];
    const [start, end] = quantize ? ends.map(roundHalfAway) : ends;
    const step = Math.max(end - start, 0) / (sampling_ratio * count);
    const position = (k) => start + k * step;
    return axisOf(count, onScale(...ends, ends[1] - ends[0]), (p) => ({
      low: position(p * sampling_ratio) + CENTRE,
      high: position((p + 1) * sampling_ratio) + CENTRE,
      divisor: sampling_ratio,
      entries: range(p * sampling_ratio, (p + 1) * sampling_ratio, (k) =>
        quantize ? clampedTap(position(k), 0.5, size) : fadedTap(position(k), size),
      ),
    }));
  }

  function cropPool(low, high, count, size, scale, { border }) {
    const [start, end] = [low * scale, high * scale];
    const last = 2 * count - 1;
    const step = (end - start) / last;
    const position = (k) => (k === last ? end : start + k * step);
    return axisOf(count, onScale(start, end, end - start), (p) => ({
      low: position(2 * p) + CENTRE,
      high: position(2 * p + 1) + CENTRE,
      divisor: 2,
      entries: range(2 * p, 2 * p + 2, (k) =>
        border === "zeros" ? fadedTap(position(k), size) : clampedTap(position(k), 0, size),
      ),
    }));
  }

  /* Of a box that its caller has divided by the image's size, or put into cells from middle to
   * middle: `spell` in figure.js writes the same.
   */
  function cropAndResize(low, high, count, size, scale, { method, normalized, edges }) {
    const round = edges === "tensorflow" ? Math.fround : (value) => value;
    const given = (z) => round(normalized ? (z * scale) / size : z * scale - CENTRE);
    const [start, end] = [given(low), given(high)];
    const reach = normalized ? size - 1 : 1;
    const times = (a, b) => round(a * b);
    const step = round(times(round(end - start), reach) / (count - 1));
    const position = (p) => {
      if (count === 1) return times(0.5 * round(start + end), reach);
      if (p === count - 1 && edges === "exact") return end * reach;
      return round(times(start, reach) + times(p, step));
    };
    return axisOf(count, true, (p) => {
      const t = position(p);
      const onMap = t >= 0 && t <= size - 1;
      const tap = clampedTap(method === "nearest" && onMap ? roundHalfAway(t) : t, 0, size);
      return { low: t + CENTRE, high: t + CENTRE, divisor: 1, entries: [{ ...tap, at: t + CENTRE }] };
    });
  }

  function prroiPool(low, high, count, size, scale, { aligned }) {
    const offset = aligned ? 0.5 : 0;
    const [start, end] = [low * scale - offset, high * scale - offset];
    const step = Math.max(end - start, 0) / count;
    return axisOf(count, onScale(start, end, end - start), (p) => {
      const [from, to] = [start + p * step, start + (p + 1) * step];
      const wide = to > from;
      const first = Math.max(Math.floor(from), -1);
      const last = Math.min(wide ? Math.ceil(to) : Math.floor(from) + 1, size);
      return {
        low: from + CENTRE,
        high: to + CENTRE,
        divisor: wide ? to - from : 1,
        entries: range(first, step > 0 ? last : first, (pixel) => {
          const [begin, stop] = [Math.max(from, pixel), Math.min(to, pixel + 1)];
          const middle = (begin - pixel + (stop - pixel)) / 2;
          const width = wide ? stop - begin : 1;
          return {
            pixel,
            weight: pixel >= 0 ? width * (1 - middle) : 0,
            next: pixel + 1 < size ? width * middle : 0,
            at: null,
          };
        }),
      };
    });
  }

  /* The cells that entries read, as [cell, weight] in order, each once and none with weight 0. */
  function weights(entries, divisor) {
    const sums = new Map();
    for (const { pixel, weight, next } of entries) {
      for (const [cell, share] of [[pixel, weight], [pixel + 1, next]]) {
        if (share !== 0) sums.set(cell, (sums.get(cell) ?? 0) + share / divisor);
      }
    }
    return [...sums].sort(([a], [b]) => a - b);
  }

  function weighted(map, y, x) {
    let sum = 0;
    for (const [i, wy] of y) for (const [j, wx] of x) sum += wy * wx * map[i][j];
    return sum;
  }

  function meanOf(map, row, column) {
    const [y, x] = [row, column].map((bin) => weights(bin.entries, bin.divisor));
    return { value: weighted(map, y, x), y, x, winner: null };
  }

  function largestOf(map, rowEntries, columnEntries) {
    let best = null;
    for (const ky of rowEntries) {
      for (const kx of columnEntries) {
        const [y, x] = [weights([ky], 1), weights([kx], 1)];
        const value = weighted(map, y, x);
        if (best === null || value > best.value) best = { value, y, x, winner: [ky, kx] };
      }
    }
    return best ?? { value: 0, y: [], x: [], winner: null };
  }

  /* The two cells of each entry, apart, each with its own weight. */
  const corners = ({ entries }) =>
    entries.flatMap(({ pixel, weight, next }) => [
      { pixel, weight, next: 0, at: null },
      { pixel: pixel + 1, weight: next, next: 0, at: null },
    ]);

  const REDUCTIONS = {
    mean: meanOf,
    max: (map, row, column) => largestOf(map, row.entries, column.entries),
    max_corner: (map, row, column) => largestOf(map, corners(row), corners(column)),
  };

  /* Every bin of `rows` by `columns`: its value, and the weights along y and x that make it.
   * Of a maximum they are those of the winner, a pair of entries or corners.
   */
  function pool(map, rows, columns, reduce) {
    return rows.map((row) => columns.map((column) => REDUCTIONS[reduce](map, row, column)));
  }

  /* Defaults come first, as the library has them. */
  const OPERATORS = {
    roi_pool: {
      axis: roiPool,
      reduce: ["max", "mean"],
      options: { rounding: ["half_away", "truncate", "none"], bins: ["exact", "float", "truncate"] },
    },
    roi_align: {
      axis: roiAlign,
      reduce: ["mean", "max", "max_corner"],
      options: { sampling_ratio: [-1, 1, 2, 3, 4], aligned: [false, true] },
    },
    roi_warp: {
      axis: roiWarp,
      reduce: ["max", "mean"],
      options: { sampling_ratio: [1, 2, 3], quantize: [true, false] },
    },
    crop_pool: { axis: cropPool, reduce: ["max"], options: { border: ["zeros", "cut"] } },
    crop_and_resize: {
      axis: cropAndResize,
      reduce: ["mean"],
      options: {
        method: ["bilinear", "nearest"],
        normalized: [true, false],
        edges: ["exact", "tensorflow"],
      },
    },
    prroi_pool: { axis: prroiPool, reduce: ["mean"], options: { aligned: [false, true] } },
  };

  return { OPERATORS, pool, weights };
})();
