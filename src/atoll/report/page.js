// What moves on the page: charts, their keys, sorting, the colour scheme, copying. Writes into data attributes of <html> what went wrong and what is drawn.
"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  const complain = (text) => {
    root.dataset.errors = [root.dataset.errors, text].filter(Boolean).join("\n");
  };
  addEventListener("error", (event) => complain(event.message));
  addEventListener("unhandledrejection", (event) => complain(String(event.reason)));

  // Colour scheme: what the system says, until the button is pressed.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("scheme");
  let printing = false;
  const isDark = () => !printing && (root.dataset.scheme ? root.dataset.scheme === "dark" : system.matches);

  // Charts
  const partners = new Map(Object.entries(JSON.parse(document.getElementById("colours").textContent)));
  const inScheme = (value) => {
    if (Array.isArray(value)) return value.map(inScheme);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, inScheme(part)]));
    return isDark() && typeof value === "string" && partners.has(value) ? partners.get(value) : value;
  };
  const config = { displayModeBar: false, responsive: true };
  const charts = all("figure").map((figure) => ({
    plot: figure.querySelector(".plot"),
    keys: all(".legend .key", figure),
    content: JSON.parse(figure.querySelector("script").textContent),
  }));

  const draw = async ({ plot, keys, content }) => {
    const { data, layout } = inScheme(content);
    const shown = new Map(keys.map((key) => [key.dataset.method, key.getAttribute("aria-pressed") === "true"]));
    for (const trace of data) {
      if (shown.has(trace.meta)) trace.visible = shown.get(trace.meta);
    }
    if (plot.clientWidth < 420) {
      layout.font.size = 11;
      for (const trace of data) if (trace.type === "heatmap") trace.showscale = false;
    }
    await Plotly.react(plot, data, layout, config);
    plot.dataset.drawn = "";
  };
  const drawAll = async () => {
    for (const chart of charts) {
      try {
        await draw(chart);
      } catch (error) {
        complain(String(error));
        if (!("drawn" in chart.plot.dataset)) chart.plot.textContent = "This chart could not be drawn.";
      }
      await new Promise((next) => setTimeout(next)); // the page stays usable between charts
    }
    root.dataset.ready = "";
  };

  for (const chart of charts) {
    const figure = chart.plot.closest("figure");
    figure.querySelector(".save").addEventListener("click", () => {
      const { clientWidth: width, clientHeight: height } = chart.plot;
      Plotly.downloadImage(chart.plot, { format: "svg", width, height, filename: figure.dataset.name });
    });
    const press = (key, on) => key.setAttribute("aria-pressed", String(on));
    for (const key of chart.keys) {
      key.addEventListener("click", () => {
        press(key, key.getAttribute("aria-pressed") !== "true");
        draw(chart);
      });
    }
    for (const set of all(".set", figure)) {
      set.addEventListener("click", () => {
        for (const key of chart.keys) press(key, set.dataset.set === "all");
        draw(chart);
      });
    }
  }

  const showScheme = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    return drawAll();
  };
  button.addEventListener("click", () => {
    root.dataset.scheme = isDark() ? "light" : "dark";
    showScheme();
  });
  system.addEventListener("change", showScheme);
  for (const [when, on] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(when, () => {
      if (!isDark() && !printing) return;
      printing = on;
      charts.forEach(draw);
    });
  }

  // Sorting: best first, then the other way round, then as it was. Empty cells stay at the end.
  for (const table of all("table.comparison")) {
    const body = table.tBodies[0];
    const before = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const other = { ascending: "descending", descending: "ascending" };
    const order = (column, sign) => (a, b) => {
      const [x, y] = [a, b].map((row) => row.cells[column].dataset.v);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (column ? x - y : x.localeCompare(y));
    };
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const { first } = head.dataset;
        const now = head.getAttribute("aria-sort");
        const next = now === "none" ? first : now === first ? other[first] : "none";
        for (const one of heads) one.setAttribute("aria-sort", one === head ? next : "none");
        table.classList.toggle("sorted", next !== "none");
        body.append(...(next === "none" ? before : [...before].sort(order(column, next === "ascending" ? 1 : -1))));
      });
    });
  }

  for (const copy of all(".copy")) {
    copy.addEventListener("click", async () => {
      const code = copy.parentElement.querySelector("code");
      getSelection().selectAllChildren(code); // where the clipboard is closed to us, the text is at least selected
      try {
        await navigator.clipboard.writeText(code.textContent);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Selected";
      }
    });
  }

  showScheme();
})();
