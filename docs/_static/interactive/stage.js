/* The drawn feature map of the interactive figure, with a box to drag on it.
 *
 * Lengths are cells: cell (i, j) is the square from (j, i) to (j + 1, i + 1).  The box is in image
 * pixels, `stride` to a cell.
 */
"use strict";

globalThis.RoiStage = (() => {
  const { weights } = globalThis.RoiRules;
  const UNIT = 40; // of the SVG to a cell
  const RIM = 1; // cells drawn around the map
  const REACH = 0.75; // cells that a dragged box may leave it by
  const CORNERS = [
    [0, 1],
    [2, 1],
    [0, 3],
    [2, 3],
  ];
  const NAMES = ["x1", "y1", "x2", "y2"];
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function svg(tag, attributes = {}, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  /* Attributes of the rectangle between two corners in any order. */
  function between(x1, y1, x2, y2) {
    return {
      x: UNIT * Math.min(x1, x2),
      y: UNIT * Math.min(y1, y2),
      width: UNIT * Math.abs(x2 - x1),
      height: UNIT * Math.abs(y2 - y1),
    };
  }

  function set(node, attributes) {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  }

  const shown = (...values) => values.every(Number.isFinite);

  /* Two decimals without the zero before them: a weight must fit its cell. */
  function short(weight) {
    const text = weight.toFixed(2);
    if (text === "0.00") return "<.01";
    return text.replace(/^0/, "").replace(/\.?0+$/, "");
  }

  class Stage {
    /* `moved(box)` is called with the new box while the user drags it or presses arrow keys. */
    constructor(rows, columns, stride, moved) {
      Object.assign(this, { rows, columns, stride, moved });
      this.cells = [];
      const squares = svg("g", { "aria-hidden": "true" });
      const numbers = svg("g", { class: "numbers", "aria-hidden": "true" });
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          const x = UNIT * (j + 0.5);
          const cell = {
            square: svg("rect", { class: "cell", ...between(j, i, j + 1, i + 1) }),
            fill: svg("rect", { class: "read", ...between(j, i, j + 1, i + 1) }),
            value: svg("text", { class: "value", x, y: UNIT * (i + 0.4) }),
            weight: svg("text", { class: "weight", x, y: UNIT * (i + 0.82) }),
          };
          this.cells.push(cell);
          squares.append(cell.square, cell.fill);
          numbers.append(cell.value, cell.weight);
        }
      }
      this.marks = svg("g", { "aria-hidden": "true" });
      this.outline = svg("rect", { class: "asked", "aria-hidden": "true" });
      this.body = svg("rect", { class: "body" });
      this.handles = CORNERS.map(() =>
        svg("g", { class: "handle" }, svg("circle", { r: 20 }), svg("circle", { r: 6 })),
      );
      const parts = svg("g", { role: "application" }, this.body, ...this.handles);
      parts.setAttribute("aria-label", "The box; arrow keys move the focused part");
      const [width, height] = [columns + 2 * RIM, rows + 2 * RIM];
      this.element = svg(
        "svg",
        {
          viewBox: [-RIM, -RIM, width, height].map((length) => length * UNIT).join(" "),
          role: "group",
          "aria-label": `Feature map of ${rows} rows and ${columns} columns`,
        },
        squares,
        this.marks,
        this.outline,
        numbers,
        parts,
      );
      this.movable(this.body, [0, 1, 2, 3]);
      this.handles.forEach((handle, number) => this.movable(handle, CORNERS[number]));
    }

    /* Let pointer and arrow keys change the coordinates of the box numbered in `which`. */
    movable(part, which) {
      let grabbed = null;
      set(part, { tabindex: 0, role: "button" });
      part.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        grabbed = { x: event.clientX, y: event.clientY, box: this.box };
        part.setPointerCapture(event.pointerId);
      });
      part.addEventListener("pointermove", (event) => {
        if (grabbed === null) return;
        const pixel = (this.element.getScreenCTM().a * UNIT) / this.stride;
        const by = [event.clientX - grabbed.x, event.clientY - grabbed.y];
        this.shift(grabbed.box, which, by.map((length) => Math.round(length / pixel)));
      });
      // Chromium 156 scrolls the page in spite of touch-action: none on a part of an SVG.
      part.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
      for (const end of ["pointerup", "pointercancel"]) {
        part.addEventListener(end, () => (grabbed = null));
      }
      part.addEventListener("keydown", (event) => {
        if (!(event.key in ARROWS)) return;
        event.preventDefault();
        const step = event.shiftKey ? this.stride / 2 : 1;
        this.shift(this.box, which, ARROWS[event.key].map((sign) => sign * step));
      });
    }

    /* Move some coordinates of `box`, as far as the drawing goes. */
    shift(box, which, by) {
      const limits = [this.columns, this.rows].map((cells) => [-REACH, cells + REACH]);
      const moved = [0, 1].map((axis) => {
        const ends = which.filter((number) => number % 2 === axis).map((number) => box[number]);
        const [low, high] = limits[axis].map((limit) => limit * this.stride);
        return Math.min(Math.max(by[axis], low - Math.min(...ends)), high - Math.max(...ends));
      });
      this.moved(box.map((value, n) => (which.includes(n) ? value + moved[n % 2] : value)));
    }

    /* `rows` and `columns` are the operator's axes, `results` what `RoiRules.pool` gives,
     * `chosen` the bin [p, q] whose reads are shown.
     */
    draw({ map, box, rows, columns, results, chosen }) {
      this.box = box;
      const [x1, y1, x2, y2] = box.map((value) => value / this.stride);
      const [row, column] = [rows[chosen[0]], columns[chosen[1]]];
      const result = results[chosen[0]][chosen[1]];
      const looked = this.shares(weights(row.entries, 1), weights(column.entries, 1));
      const shares = this.shares(result.y, result.x);
      this.cells.forEach(({ square, fill, value, weight }, number) => {
        const share = shares.get(number);
        const blue = share === undefined ? 0.2 * looked.has(number) : 0.3 + 0.7 * share;
        const content = map[Math.floor(number / this.columns)][number % this.columns];
        square.style.setProperty("--level", content / 100);
        fill.style.setProperty("--weight", blue);
        value.textContent = content;
        weight.textContent = share === undefined ? "" : short(share);
      });

      this.marks.replaceChildren();
      for (const y of rows) for (const x of columns) this.mark(y, x, "");
      this.mark(row, column, " chosen", result.winner);

      set(this.outline, between(x1, y1, x2, y2));
      set(this.body, between(x1, y1, x2, y2));
      const coordinates = NAMES.map((name, number) => `${name} ${box[number]}`);
      this.body.setAttribute("aria-label", `Box: ${coordinates.join(", ")}`);
      this.handles.forEach((handle, number) => {
        const [x, y] = CORNERS[number];
        const place = [box[x], box[y]].map((value) => (value / this.stride) * UNIT);
        handle.setAttribute("transform", `translate(${place})`);
        const label = `Corner: ${NAMES[x]} ${box[x]}, ${NAMES[y]} ${box[y]}`;
        handle.setAttribute("aria-label", label);
      });
    }

    /* The weights of cells, by their number, from those along y and x. */
    shares(y, x) {
      const products = y.flatMap(([i, wy]) => x.map(([j, wx]) => [i * this.columns + j, wy * wx]));
      return new Map(products);
    }

    /* The outline of one bin, its samples and the winner among them. */
    mark(row, column, kind, winner = null) {
      if (shown(row.low, row.high, column.low, column.high)) {
        const corners = between(column.low, row.low, column.high, row.high);
        this.marks.append(svg("rect", { class: `bin${kind}`, ...corners }));
      }
      for (const ky of row.entries) {
        for (const kx of column.entries) {
          if (!shown(ky.at, kx.at)) continue;
          const off = ky.weight + ky.next === 0 || kx.weight + kx.next === 0 ? " off" : "";
          const [cx, cy] = [UNIT * kx.at, UNIT * ky.at];
          this.marks.append(svg("circle", { class: `sample${kind}${off}`, cx, cy, r: 3 }));
        }
      }
      if (winner !== null) {
        const [cy, cx] = winner.map(({ at, pixel }) => UNIT * (at ?? pixel + 0.5));
        const r = winner[0].at === null ? UNIT * 0.46 : 7;
        this.marks.append(svg("circle", { class: "winner", cx, cy, r }));
      }
    }
  }

  return Stage;
})();
