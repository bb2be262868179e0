// Exposure tables: sorted by a click on a heading, searched while typing. Without it they are whole.
"use strict";
for (const table of document.querySelectorAll("table.exposures")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];

  const value = (row, column, isNumber) => {
    const text = row.cells[column].textContent.trim();
    return isNumber ? parseFloat(text.replace("−", "-")) : text.toLowerCase();
  };
  const isEmpty = (value) => value === "" || Number.isNaN(value);

  const sort = (column) => {
    const heading = headings[column];
    const isNumber = heading.classList.contains("n");
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = rows.map((row) => [value(row, column, isNumber), row]);
    keyed.sort(([a], [b]) => {
      if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b); // what is not known, last
      const order = isNumber ? a - b : a < b ? -1 : Number(a > b);
      return down ? -order : order;
    });
    body.append(...keyed.map(([, row]) => row));
  };

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(column));
    heading.append(button);
  });

  const search = document.getElementById(table.dataset.search);
  const count = search.querySelector("output");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  search.querySelector("input").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => texts.get(row).includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} exposures`;
  });
  search.hidden = false;
}
