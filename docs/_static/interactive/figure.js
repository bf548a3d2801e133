/* The interactive figure: fills every element of class "roi-figure" with controls, a feature map
 * with a box to drag, and what the chosen operator makes of it.
 */
"use strict";

(() => {
  const { OPERATORS, pool } = globalThis.RoiRules;
  const [ROWS, COLUMNS, STRIDE] = [7, 8, 16];
  const SIZES = [1, 2, 3, 4, 5, 7];
  const MAPS = {
    hills: (i, j) =>
      Math.round(50 + 26 * Math.sin(1.1 * j - 0.7 * i) + 22 * Math.cos(1.3 * i + 0.4 * j)),
    "10 y + x": (i, j) => 10 * i + j,
    "all ones": () => 1,
    "one bright cell": (i, j) => (i === 3 && j === 4 ? 99 : 0),
  };
  const NAMES = ["x1", "y1", "x2", "y2"];
  const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const ANNOUNCE_AFTER = 400; // ms: who listens hears of a drag when it rests

  let figures = 0;

  /* An element; attributes that are functions listen, undefined ones are left out. */
  function html(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") node.addEventListener(name, value);
      else if (value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  const format = (value) => String(Number(value.toFixed(2)));

  const formatWeight = (weight) => String(Number(weight.toPrecision(3)));

  /* An option's value as Python spells it. */
  function python(value) {
    if (typeof value === "boolean") return value ? "True" : "False";
    return typeof value === "string" ? `"${value}"` : String(value);
  }

  const same = ([p, q], [row, column]) => p === row && q === column;

  function labelled(text, control) {
    return html("label", {}, html("span", {}, text), control);
  }

  function choice(label, values, chosen, changed) {
    const options = values.map((value, number) => {
      const text = typeof value === "string" ? value : python(value);
      return html("option", { value: number, selected: value === chosen ? "" : undefined }, text);
    });
    const change = (event) => changed(values[event.target.value]);
    return labelled(label, html("select", { change }, ...options));
  }

  function fields(legend, ...controls) {
    const row = html("div", { class: "roi-fields" }, ...controls);
    return html("fieldset", {}, html("legend", {}, legend), row);
  }

  function tableRow(tag, head, ...cells) {
    const scope = tag === "th" ? "col" : "row";
    return html("tr", {}, html("th", { scope }, head), ...cells.map((text) => html(tag, {}, text)));
  }

  /* Where an axis's bins begin and end, in cells. */
  function extent(bins) {
    const ends = bins.flatMap(({ low, high }) => [low, high]);
    if (!ends.every(Number.isFinite)) return "–";
    return `${format(Math.min(...ends))} to ${format(Math.max(...ends))}`;
  }

  /* Every option of an operator, and the first of its values. */
  function defaults({ reduce, options }) {
    const all = Object.entries({ ...options, reduce });
    return Object.fromEntries(all.map(([name, values]) => [name, values[0]]));
  }

  function figure(root) {
    const own = Object.entries(OPERATORS).map(([name, operator]) => [name, defaults(operator)]);
    const state = {
      operator: "roi_pool",
      options: Object.fromEntries(own),
      size: [2, 2],
      box: [21, 25, 92, 87],
      map: "hills",
      chosen: [0, 0],
      pointed: null, // at, by a mouse that passes
    };
    let buttons = [];
    let announcing = 0;

    function change(what) {
      Object.assign(state, what);
      update();
    }

    // ---- what there is to see ------------------------------------------------------------

    const group = `roi-figure-${figures++}`;
    const operators = Object.keys(OPERATORS).map((name) => {
      const checked = name === state.operator ? "" : undefined;
      const change = () => {
        state.operator = name;
        buildOptions();
        update();
      };
      const input = html("input", { type: "radio", name: group, value: name, checked, change });
      return html("label", {}, input, html("span", {}, name));
    });
    const options = fields("Its options");
    const sizes = ["rows", "columns"].map((label, axis) =>
      choice(label, SIZES, state.size[axis], (count) => {
        state.size[axis] = count;
        state.chosen = state.chosen.map((bin, n) => Math.min(bin, state.size[n] - 1));
        buildOutput();
        update();
      }),
    );
    const maps = choice("values", Object.keys(MAPS), state.map, (map) => change({ map }));
    const coordinates = NAMES.map((name, number) => {
      const typed = ({ target }) => {
        const value = target.valueAsNumber;
        target.setAttribute("aria-invalid", String(!Number.isFinite(value)));
        if (!Number.isFinite(value)) return;
        change({ box: state.box.map((old, n) => (n === number ? value : old)) });
      };
      return html("input", { type: "number", step: "any", name, input: typed, blur: update });
    });
    const stage = new globalThis.RoiStage(ROWS, COLUMNS, STRIDE, (box) => change({ box }));
    const mouseleave = () => change({ pointed: null });
    const output = html("table", { class: "roi-output", mouseleave });
    const readout = html("div", { class: "roi-readout" });
    const call = html("pre", { class: "roi-call", tabindex: 0, "aria-label": "In Python" });
    const compared = html("span");
    const comparison = html("tbody");
    const status = html("p", { class: "roi-unseen", role: "status", "aria-live": "polite" });

    function legend() {
      const item = (kind, text) => html("li", {}, html("i", { class: `roi-key ${kind}` }), text);
      return html(
        "ul",
        { class: "roi-legend", "aria-hidden": "true" },
        item("asked", "the box"),
        item("bin", "the operator's bins"),
        item("sample", "a sample"),
        item("winner", "the largest"),
      );
    }

    function build() {
      const box = fields(
        `Box, in image pixels: ${STRIDE} to a cell`,
        ...coordinates.map((input) => labelled(input.name, input)),
      );
      box.lastChild.classList.add("roi-coordinates");
      root.replaceChildren(
        html("fieldset", { class: "roi-operators" }, html("legend", {}, "Operator"), ...operators),
        html(
          "div",
          { class: "roi-settings" },
          options,
          fields("Output size", ...sizes),
          fields("Feature map", maps),
        ),
        html(
          "div",
          { class: "roi-panes" },
          html("div", {}, stage.element, legend()),
          html("div", {}, output, readout),
        ),
        box,
        call,
        html(
          "div",
          { class: "roi-scroll" },
          html(
            "table",
            { class: "roi-comparison" },
            html("caption", {}, "All on this box, options as set: bins, in cells, and ", compared),
            html("thead", {}, tableRow("th", "operator", "x", "y", "value")),
            comparison,
          ),
        ),
        status,
      );
      root.classList.add("roi-ready");
    }

    function buildOptions() {
      const { reduce, options: geometry } = OPERATORS[state.operator];
      const all = reduce.length > 1 ? { ...geometry, reduce } : geometry;
      const mine = state.options[state.operator];
      const controls = Object.entries(all).map(([name, values]) =>
        choice(name, values, mine[name], (value) => {
          mine[name] = value;
          update();
        }),
      );
      options.querySelector(".roi-fields").replaceChildren(...controls);
    }

    function buildOutput() {
      const [rows, columns] = state.size;
      const body = html("tbody");
      buttons = [];
      state.pointed = null;
      for (let p = 0; p < rows; p++) {
        const line = html("tr");
        for (let q = 0; q < columns; q++) {
          const choose = () => change({ chosen: [p, q], pointed: null });
          const point = () => change({ pointed: [p, q] });
          const keydown = (event) => walk(event, p, q);
          const button = html("button", {
            type: "button",
            click: choose,
            focus: choose,
            mouseenter: point,
            keydown,
          });
          buttons.push({ button, bin: [p, q] });
          line.append(html("td", {}, button));
        }
        body.append(line);
      }
      const caption = html("caption", {}, "Pooled values: choose one to see what it reads");
      output.replaceChildren(caption, body);
    }

    function walk(event, p, q) {
      if (!(event.key in ARROWS)) return;
      event.preventDefault();
      const [down, right] = ARROWS[event.key];
      buttons.find(({ bin }) => same(bin, [p + down, q + right]))?.button.focus();
    }

    // ---- what is shown of it -------------------------------------------------------------

    function measure(name) {
      const { reduce, ...geometry } = state.options[name];
      const [x1, y1, x2, y2] = state.box;
      const map = Array.from({ length: ROWS }, (_, i) =>
        Array.from({ length: COLUMNS }, (__, j) => MAPS[state.map](i, j)),
      );
      const { axis } = OPERATORS[name];
      const rows = axis(y1, y2, state.size[0], ROWS, 1 / STRIDE, geometry);
      const columns = axis(x1, x2, state.size[1], COLUMNS, 1 / STRIDE, geometry);
      return { map, rows, columns, results: pool(map, rows, columns, reduce) };
    }

    function update() {
      const shown = state.pointed ?? state.chosen;
      const measured = measure(state.operator);
      stage.draw({ ...measured, box: state.box, chosen: shown });
      coordinates.forEach((input, number) => {
        if (input === document.activeElement) return; // it is being typed
        input.value = state.box[number];
        input.setAttribute("aria-invalid", "false");
      });
      for (const { button, bin } of buttons) {
        button.textContent = format(measured.results[bin[0]][bin[1]].value);
        button.setAttribute("aria-label", `output[${bin.join(", ")}]: ${button.textContent}`);
        button.setAttribute("aria-pressed", String(same(bin, state.chosen)));
        button.tabIndex = same(bin, state.chosen) ? 0 : -1;
        button.classList.toggle("roi-shown", same(bin, shown));
      }
      const lines = describe(measured, shown);
      readout.replaceChildren(...lines.map((line) => html("p", {}, line)));
      call.textContent = spell();
      compared.textContent = `output[${shown.join(", ")}]`;
      const [x1, y1, x2, y2] = state.box.map((value) => format(value / STRIDE));
      comparison.replaceChildren(
        tableRow("td", "the box", `${x1} to ${x2}`, `${y1} to ${y2}`, ""),
        ...Object.keys(OPERATORS).map((name) => compare(name, shown)),
      );
      clearTimeout(announcing);
      announcing = setTimeout(() => {
        status.textContent = `${state.operator}, ${lines.join("; ")}`;
      }, ANNOUNCE_AFTER);
    }

    /* What the shown bin reads, in words. */
    function describe({ rows, columns, results }, [p, q]) {
      const { value, y, x, winner } = results[p][q];
      const head = `output[${p}, ${q}] = ${format(value)}`;
      if (y.length === 0 || x.length === 0) {
        return [head, winner === null ? "It reads no cell." : "The largest lies off the map."];
      }
      const along = (name, weights) =>
        `${name} ${weights.map(([cell, weight]) => `${cell}: ${formatWeight(weight)}`).join(", ")}`;
      const pairs = rows[p].entries.length * columns[q].entries.length;
      const kind = rows[p].entries[0].at === null ? "cells" : "samples";
      const apart = state.options[state.operator].reduce === "max_corner";
      const all = apart ? `${4 * pairs} corners` : `${pairs} ${kind}`;
      const which = winner === null ? "" : ` of the largest, of ${all}`;
      return [head, `Weights${which}:`, along("row", y), along("column", x)];
    }

    function compare(name, [p, q]) {
      const { rows, columns, results } = measure(name);
      const row = tableRow("td", name, extent(columns), extent(rows), format(results[p][q].value));
      row.classList.toggle("roi-shown", name === state.operator);
      return row;
    }

    /* The call of the library that gives these values. */
    function spell() {
      const { operator, size, box } = state;
      const { reduce, options: geometry } = OPERATORS[operator];
      const given = Object.entries({ ...geometry, reduce })
        .filter(([name, values]) => state.options[operator][name] !== values[0])
        .map(([name]) => `, ${name}=${python(state.options[operator][name])}`);
      const first = `roi_numba.${operator}(features, boxes, (${size.join(", ")})`;
      if ("normalized" in geometry) {
        const [x1, y1, x2, y2] = box;
        const image = [ROWS, COLUMNS, ROWS, COLUMNS].map((cells) => cells * STRIDE);
        const { normalized } = state.options[operator];
        const units = normalized ? `[${image.join(", ")}]` : `${STRIDE} - 0.5`;
        const rest = "box_indices=np.array([0]), channel_axis=1";
        return `boxes = np.array([[${[y1, x1, y2, x2].join(", ")}]]) / ${units}
${first}, ${rest}${given.join("")})`;
      }
      return `boxes = np.array([[0, ${box.join(", ")}]])
${first}, 1 / ${STRIDE}${given.join("")})`;
    }

    build();
    buildOptions();
    buildOutput();
    update();
  }

  document.querySelectorAll(".roi-figure").forEach(figure);
})();
