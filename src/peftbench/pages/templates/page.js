"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const PAGE = 100;
  const LONG = 40;
  const LABELS = { run: "run", workload: "workload", task: "task", batch: "batch size", file: "file", group: "task and batch size", case: "case" };

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function unpacked(rows) {
    const columns = Object.entries(rows.columns).map(([name, column]) =>
      [name, column.words ? column.places.map((place) => column.words[place]) : column]);
    return Array.from({ length: rows.count }, (_, i) => Object.fromEntries(columns.map(([name, values]) => [name, values[i]])));
  }

  const distinct = (values) => [...new Set(values)];

  // ---- charts: each has all of its rows, and shows those that are selected

  const charts = new Map();
  const table = { ...data.table, keys: unpacked(data.table.keys), texts: unpacked(data.table.texts) };
  const chosen = { keys: {}, methods: new Set(), run: "", id: "" };

  // Names of points may lie on each other: of two that overlap, the one drawn later is hidden. Its point has a tooltip.
  // Labels of axes and legends are texts as well, and Vega sees to them itself.
  function declutter(box) {
    const kept = [];
    for (const text of box.querySelectorAll(".mark-text.role-mark text")) {
      const one = text.getBoundingClientRect();
      const hit = kept.some((two) => one.left < two.right && two.left < one.right && one.top < two.bottom && two.top < one.bottom);
      text.style.visibility = hit ? "hidden" : "";
      if (!hit) kept.push(one);
    }
  }

  async function draw(name) {
    const chart = charts.get(name);
    const rows = chart.rows.filter(chart.selects);
    chart.figure.querySelector(".nothing").hidden = rows.length > 0;
    chart.box.hidden = rows.length === 0;
    chart.figure.hidden = rows.length === 0 && chart.figure.closest("#case") !== null; // the case has no such part
    if (!rows.length) return;
    if (!chart.view) {
      const made = await vegaEmbed(chart.box, { ...chart.spec, datasets: { [data.dataName]: rows } }, {
        actions: false, renderer: "svg", ast: true, defaultStyle: false, mode: "vega-lite", logLevel: 1, tooltip: { disableDefaultStyle: true },
      });
      chart.view = made.view;
      chart.box.querySelector("svg").setAttribute("aria-hidden", "true"); // the box around it has the description
      chart.box.setAttribute("role", "img"); // Vega makes it a document, within which nothing can be read
      chart.box.removeAttribute("aria-roledescription");
    }
    const view = chart.view;
    if (chart.hasChosen) view.signal(data.chosenName, chosen.id);
    await view.data(data.dataName, rows).resize().runAsync();
    settle();
  }

  // Vega also draws on its own when the window changes, so names are looked at once all is still.
  let settling = 0;
  function settle() {
    clearTimeout(settling);
    settling = setTimeout(() => charts.forEach((chart) => declutter(chart.box)), 100);
  }

  const queue = new Map();
  function redraw(name) {
    const before = queue.get(name) || Promise.resolve();
    const next = before.then(() => draw(name));
    queue.set(name, next);
    return next;
  }

  function picker(chart, key) {
    const values = distinct(chart.rows.map((row) => row[key]));
    chart.at[key] = values[0];
    if (values.length < 2) return;
    const id = `pick-${chart.name}-${key}`;
    const select = element("select", { id });
    select.append(...values.map((value) => element("option", { value }, value)));
    select.addEventListener("change", () => { chart.at[key] = select.value; redraw(chart.name); });
    const place = chart.figure.querySelector(".picker");
    place.hidden = false;
    place.append(element("label", { for: id }, LABELS[key] + " ", select));
  }

  function addChart(name, plot) {
    const figure = $(`plot-${name}`);
    if (!figure) return;
    const chart = { name, figure, box: figure.querySelector(".drawing"), spec: plot.spec, rows: unpacked(plot.rows), at: {} };
    chart.hasChosen = (plot.spec.params || []).some((one) => one.name === data.chosenName);
    chart.alone = plot.keys.includes("id"); // it shows the case that is looked at, and nothing else
    if (chart.alone) {
      chart.selects = (row) => row.run === chosen.run && row.id === chosen.id;
    } else if (plot.keys.includes("workload")) {
      chart.selects = (row) => data.keys.every((key) => row[key] === chosen.keys[key]) && chosen.methods.has(row.method);
    } else {
      plot.keys.forEach((key) => picker(chart, key));
      const offered = new Set(table.keys.map((row) => row.method)); // a method that has trainings only has no box
      const isChosen = (row) => name !== "cost-quality" || !offered.has(row.method) || chosen.methods.has(row.method);
      chart.selects = (row) => plot.keys.every((key) => row[key] === chart.at[key]) && isChosen(row);
    }
    charts.set(name, chart);
  }

  const ofCases = () => [...charts.keys()].filter((name) => data.plots[name].keys.includes("workload"));
  const ofMethods = () => [...charts.keys()].filter((name) => data.plots[name].keys.includes("workload") || name === "cost-quality");

  // ---- selection of workload, task, batch size and methods

  function options(key, place) {
    const fits = (row) => data.keys.slice(0, place).every((one) => row[one] === chosen.keys[one]);
    return distinct(table.keys.filter(fits).map((row) => row[key]));
  }

  function fillPicks() {
    data.keys.forEach((key, place) => {
      const select = $(`pick-${key}`);
      const values = options(key, place);
      if (!values.includes(chosen.keys[key])) chosen.keys[key] = values[0];
      select.replaceChildren(...values.map((value) => element("option", { value }, value)));
      select.value = chosen.keys[key];
      select.parentElement.hidden = key === "run" && values.length < 2;
    });
    const { run, workload, task, batch } = chosen.keys;
    $("shown").textContent = `The charts show ${workload}, ${task}, batch size ${batch}` + ($("pick-run").parentElement.hidden ? "." : `, of ${run}.`);
  }

  function makeSelection() {
    for (const key of data.keys) {
      const select = element("select", { id: `pick-${key}` });
      select.addEventListener("change", () => { chosen.keys[key] = select.value; changed(); });
      $("picks").append(element("label", { for: `pick-${key}` }, LABELS[key], select));
    }
    const methods = distinct(table.keys.map((row) => row.method));
    methods.forEach((method, place) => {
      chosen.methods.add(method);
      const box = element("input", { type: "checkbox", id: `method-${place}`, value: method });
      box.checked = true;
      box.addEventListener("change", () => {
        if (box.checked) chosen.methods.add(method); else chosen.methods.delete(method);
        ofMethods().forEach(redraw);
      });
      document.querySelector("#methods .boxes").append(element("label", { for: box.id }, box, method));
    });
    const setAll = (checked) => {
      document.querySelectorAll("#methods input").forEach((box) => {
        box.checked = checked;
        if (checked) chosen.methods.add(box.value); else chosen.methods.delete(box.value);
      });
      ofMethods().forEach(redraw);
    };
    $("all-methods").addEventListener("click", () => setAll(true));
    $("no-methods").addEventListener("click", () => setAll(false));
    $("selection").addEventListener("submit", (event) => event.preventDefault());
  }

  function changed() {
    fillPicks();
    ofCases().forEach(redraw);
  }

  // ---- the table of cases

  const order = { column: -1, down: false };
  let visible = PAGE;
  let matching = table.keys.map((_, i) => i);
  const several = (key) => distinct(table.keys.map((row) => row[key])).length > 1;
  const keyColumns = ["workload", "task", "batch", ...(table.keys.length && several("run") ? ["run"] : [])];

  function compare(column) {
    const texts = (i) => (column < keyColumns.length ? (column < 0 ? table.keys[i].method : table.keys[i][keyColumns[column]]) : table.texts[i][`c${column - keyColumns.length}`]);
    const numbers = column >= keyColumns.length ? table.numbers[column - keyColumns.length] : null;
    if (!numbers) return (a, b) => String(texts(a)).localeCompare(String(texts(b)), undefined, { numeric: true });
    return (a, b) => {
      const [one, two] = [numbers[a], numbers[b]];
      if (one === null || two === null) return (one === null) - (two === null);
      return one - two;
    };
  }

  function arrange() {
    const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    matching = table.keys.map((_, i) => i).filter((i) => {
      const row = table.keys[i];
      const text = `${row.id} ${row.method} ${row.workload} ${row.task} ${row.batch} ${row.run} ${Object.values(table.texts[i]).join(" ")}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    if (order.column >= -1 && order.set) {
      const by = compare(order.column);
      const unknown = (i) => order.column >= keyColumns.length && table.numbers[order.column - keyColumns.length] && table.numbers[order.column - keyColumns.length][i] === null;
      matching.sort((a, b) => (unknown(a) - unknown(b)) || (order.down ? by(b, a) : by(a, b)) || a - b);
    }
    visible = PAGE;
    fillTable();
  }

  function fillTable() {
    const body = $("cases").tBodies[0];
    body.replaceChildren(...matching.slice(0, visible).map((i) => {
      const keys = table.keys[i];
      const button = element("button", { type: "button" }, keys.method);
      button.addEventListener("click", () => { show(keys.run, keys.id); $("case").scrollIntoView(); $("which").focus({ preventScroll: true }); });
      const row = element("tr", {}, element("th", { scope: "row" }, button));
      keyColumns.forEach((key) => row.append(element("td", key === "batch" ? { class: "n" } : {}, keys[key])));
      table.titles.forEach((_, place) => row.append(element("td", table.numbers[place] ? { class: "n" } : {}, table.texts[i][`c${place}`])));
      if (keys.id === chosen.id && keys.run === chosen.keys.run) row.setAttribute("aria-current", "true");
      return row;
    }));
    const rest = matching.length - Math.min(visible, matching.length);
    $("more").hidden = rest === 0;
    $("more").textContent = `Show ${Math.min(rest, PAGE)} more of ${rest}`;
    $("matching").textContent = `${matching.length} of ${table.keys.length} cases match.`;
  }

  function makeTable() {
    const head = element("tr");
    const titles = ["method", ...keyColumns.map((key) => LABELS[key]), ...table.titles];
    titles.forEach((title, place) => {
      const column = place - 1;
      const button = element("button", { type: "button" }, title);
      const mark = element("span", { "aria-hidden": "true" });
      button.append(mark);
      const numeric = column >= keyColumns.length && table.numbers[column - keyColumns.length];
      const cell = element("th", { scope: "col", ...(numeric || keyColumns[column] === "batch" ? { class: "n" } : {}) }, button);
      button.addEventListener("click", () => {
        order.down = order.set && order.column === column ? !order.down : false;
        order.set = true;
        order.column = column;
        head.querySelectorAll("th").forEach((one) => { one.removeAttribute("aria-sort"); one.querySelector("span").textContent = ""; });
        cell.setAttribute("aria-sort", order.down ? "descending" : "ascending");
        mark.textContent = order.down ? " \u25BC" : " \u25B2";
        arrange();
      });
      head.append(cell);
    });
    $("cases").tHead.append(head);
    $("filter").addEventListener("input", arrange);
    $("more").addEventListener("click", () => { visible += PAGE; fillTable(); });
    arrange();
  }

  // ---- one case

  const word = (place) => data.details.words[place];
  const cases = data.details.cases.map((one) => ({
    run: word(one[0]), id: one[1], status: word(one[2]), reason: word(one[3]), lists: one[4], warnings: one[5].map(word), command: one[6],
  }));

  function list([title, note, ...texts]) {
    const wide = texts.some((text, i) => i % 2 === 0 && text.length > LONG); // names of kernels
    const box = element("div", wide ? { class: "wide" } : {}, element("h3", {}, title));
    if (note) box.append(element("p", {}, note));
    const terms = element("dl");
    texts.forEach((text, i) => terms.append(element(i % 2 ? "dd" : "dt", {}, text)));
    box.append(terms);
    return box;
  }

  function show(run, id) {
    const one = cases.find((each) => each.run === run && each.id === id);
    const row = table.keys.find((each) => each.run === run && each.id === id);
    chosen.run = run;
    chosen.id = id;
    charts.forEach((chart) => { if (chart.alone) redraw(chart.name); });
    if (row) {
      data.keys.forEach((key) => { chosen.keys[key] = row[key]; });
      changed();
    } else {
      ofCases().forEach(redraw);
    }
    const place = cases.indexOf(one);
    $("which").value = place;
    $("case-name").textContent = !one || one.status === "ok" ? id : `${id}: ${one.status}: ${one.reason}`;
    if (!one) {
      $("facts").replaceChildren(element("p", {}, `${id}: its details are left out of this page.`));
      return;
    }
    const about = data.runs[run];
    const warnings = element("ul");
    warnings.append(...one.warnings.map((text) => element("li", {}, text)));
    $("facts").replaceChildren(
      element("div", { class: "wide" },
        element("h3", {}, "Measure it again"), element("pre", {}, element("code", {}, one.command)),
        ...(one.warnings.length ? [element("h3", {}, "Warnings"), warnings] : [])),
      ...one.lists.map((places) => list(places.map(word))),
      list(["Settings", "", ...Object.entries(about.settings).flat()]),
      list(["Machine and versions", "", ...Object.entries(about.fingerprint).flat()]),
    );
  }

  function makeCases() {
    const select = $("which");
    const ofSeveral = distinct(cases.map((one) => one.run)).length > 1;
    select.append(...cases.map((one, i) => element("option", { value: i }, ofSeveral ? `${one.id} (${one.run})` : one.id)));
    select.addEventListener("change", () => show(cases[select.value].run, cases[select.value].id));
  }

  for (const [name, plot] of Object.entries(data.plots)) addChart(name, plot);
  if (table.keys.length) {
    makeSelection();
    data.keys.forEach((key, place) => { chosen.keys[key] = options(key, place)[0]; });
    fillPicks();
    makeTable();
  }
  if ($("which")) {
    makeCases();
    if (cases.length) show(cases[0].run, cases[0].id);
  }
  const drawn = Promise.all([...charts.keys()].map(redraw)).then(() => Promise.all(queue.values()));
  drawn.then(() => {
    charts.forEach((chart) => declutter(chart.box));
    document.documentElement.setAttribute("data-drawn", "yes");
    performance.mark("drawn");
  }, (error) => { throw error; });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    settle();
    if (width === window.innerWidth) return;
    width = window.innerWidth;
    charts.forEach((chart) => { if (chart.view) chart.view.resize().runAsync().then(settle); });
  });
})();
