"use strict";
for (const table of document.querySelectorAll("table.board")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const first = head.dataset.first || "descending";
      const other = first === "descending" ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const body = table.tBodies[0];
      const value = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => {
        const x = value(a), y = value(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        const d = Number(x) - Number(y);
        return sign * (Number.isNaN(d) ? x.localeCompare(y) : d);
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
const reveal = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", reveal);
reveal();
let shut = [];
addEventListener("beforeprint", () => {
  shut = [...document.querySelectorAll("details.runs:not([open])")];
  shut.forEach((d) => { d.open = true; });
});
addEventListener("afterprint", () => shut.forEach((d) => { d.open = false; }));
