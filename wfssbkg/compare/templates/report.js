// Nothing here is needed to read the report: without it, tables and pictures are all there.
"use strict";

// Exposure tables: sorted by a click on a heading, searched while typing.
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

// Pictures: enlarged by a click, or by the keyboard; the arrows lead to those beside it.
const dialog = document.createElement("dialog");
dialog.setAttribute("aria-label", "Enlarged picture");
document.body.append(dialog);
const pictures = [...document.querySelectorAll("figure img")];
let shown = 0;

const show = (number) => {
  shown = (number + pictures.length) % pictures.length;
  const picture = pictures[shown];
  const caption = document.createElement("p");
  caption.textContent = picture.closest("figure").querySelector("figcaption")?.innerText || picture.alt;
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  dialog.className = picture.closest(".sheet") ? "exposure" : "";
  dialog.replaceChildren(picture.cloneNode(), caption, close);
  if (!dialog.open) dialog.showModal();
  close.focus();
};

pictures.forEach((picture, number) => {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "enlarge";
  button.setAttribute("aria-label", `Enlarge: ${picture.alt}`);
  picture.replaceWith(button);
  button.append(picture);
  button.addEventListener("click", () => show(number));
});
dialog.addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => dialog.replaceChildren());
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) show(shown + step);
});
