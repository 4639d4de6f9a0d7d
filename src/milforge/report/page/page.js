"use strict";
// Sorting by a column: numbers by data-v, the rest as text; empty cells come last.
function value(row, column) {
  const cell = row.cells[column];
  const v = cell.dataset.v;
  return v === undefined ? cell.textContent.trim() : v === "" ? "" : Number(v);
}
for (const th of document.querySelectorAll("thead th")) {
  th.querySelector("button").addEventListener("click", () => {
    const down = th.getAttribute("aria-sort") === "ascending";
    const body = th.closest("table").tBodies[0];
    const rows = [...body.rows];
    rows.sort((a, b) => {
      const x = value(a, th.cellIndex), y = value(b, th.cellIndex);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = typeof x === "number" && typeof y === "number"
        ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
      return down ? -order : order;
    });
    for (const other of th.parentNode.cells) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  });
}
function cells(table) {
  return [...table.rows].map(row => [...row.cells].map(cell => cell.textContent.trim()));
}
function asCsv(rows) {
  // A spreadsheet must not take text for a formula.
  const safe = c => /^[=+@\t\r-]/.test(c) && isNaN(Number(c)) ? "'" + c : c;
  return rows.map(row => row.map(c => '"' + safe(c).replaceAll('"', '""') + '"').join(",")).join("\n") + "\n";
}
function asLatex(rows) {
  const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "<": "\\textless{}", ">": "\\textgreater{}" };
  const plain = c => c.replace(/[\\~^<>&%$#_{}]/g, m => special[m] ?? "\\" + m);
  const lines = rows.map(row => row.map(plain).join(" & ") + " \\\\");
  return "\\begin{tabular}{" + "l".repeat(rows[0].length) + "}\n\\hline\n" + lines[0] + "\n\\hline\n" +
    lines.slice(1).join("\n") + "\n\\hline\n\\end{tabular}\n";
}
async function copy(textToCopy) {
  try { await navigator.clipboard.writeText(textToCopy); return true; } catch { /* a page from disk */ }
  const area = document.createElement("textarea");
  area.value = textToCopy;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const rows = cells(button.closest(".table").querySelector("table"));
    const done = await copy(button.dataset.copy === "csv" ? asCsv(rows) : asLatex(rows));
    const before = button.textContent;
    button.textContent = done ? "copied" : "could not copy";
    setTimeout(() => { button.textContent = before; }, 1200);
  });
}
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!shown));
    const group = button.closest("figure").querySelector(`g[data-s="${button.dataset.s}"]`);
    group.classList.toggle("off", shown);
  });
}
document.getElementById("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
});
