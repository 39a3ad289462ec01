"use strict";

const cards = [...document.querySelectorAll(".card")].map((element) => ({
  element,
  ...element.dataset,
  words: [...element.querySelectorAll("[data-search]")].map((part) => part.textContent).join(" ").toLowerCase(),
}));
const [relation, kind, words, chip, status, form] = ["#relation", "#kind", "#words", "#cell", "#status", ".filters"].map(
  (selector) => document.querySelector(selector),
);
const cells = [...document.querySelectorAll(".cell.error")];
let chosen = null; // the square of the confusion matrix whose errors are shown

function matches(card) {
  return (
    (!relation.value || [card.gold, card.predicted].includes(relation.value)) &&
    (!kind.value || card.kind === kind.value) &&
    (!chosen || (card.gold === chosen.dataset.gold && card.predicted === chosen.dataset.predicted)) &&
    words.value.toLowerCase().split(/\s+/).every((word) => card.words.includes(word))
  );
}

function update() {
  let shown = 0;
  for (const card of cards) {
    card.element.hidden = !matches(card);
    shown += !card.element.hidden;
  }
  status.value = shown === cards.length ? `${shown} errors` : `${shown} of ${cards.length} errors`;
  for (const cell of cells) cell.setAttribute("aria-pressed", String(cell === chosen));
  chip.hidden = !chosen;
  chip.textContent = chosen ? `gold ${chosen.dataset.gold}, predicted ${chosen.dataset.predicted}  ×` : "";
}

function choose(cell) {
  chosen = cell === chosen ? null : cell;
  relation.value = kind.value = words.value = "";
  update();
  if (chosen) document.querySelector("#errors").scrollIntoView({ behavior: "smooth" });
}

for (const cell of cells) {
  cell.addEventListener("click", () => choose(cell));
  cell.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(cell);
    }
  });
}
for (const button of document.querySelectorAll("[data-relation]")) {
  button.addEventListener("click", () => {
    choose(null);
    relation.value = button.dataset.relation;
    if (relation.value !== button.dataset.relation) relation.value = ""; // a relation without errors is no choice
    update();
    document.querySelector("#errors").scrollIntoView({ behavior: "smooth" });
  });
}
chip.addEventListener("click", () => choose(null));
form.addEventListener("input", update);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => {
  chosen = null;
  setTimeout(update); // after the fields are empty
});
