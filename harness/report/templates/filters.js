"use strict";
(() => {
  const form = document.getElementById("filters");
  const cases = [...document.querySelectorAll("details.case")];
  const texts = new Map(cases.map((each) => [each, each.textContent.toLowerCase()]));

  const wanted = (each, words, group, level, outcomes, differs) =>
    (!group || each.dataset.group === group) &&
    (!level || each.dataset.level === level) &&
    (!outcomes.length || outcomes.some((one) => each.dataset.outcomes.split(" ").includes(one))) &&
    (!differs || "differs" in each.dataset) &&
    words.every((word) => texts.get(each).includes(word));

  const apply = () => {
    const data = new FormData(form);
    const words = data.get("text").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const each of cases) {
      const stays = wanted(each, words, data.get("group"), data.get("level"), data.getAll("outcome"), data.has("differs"));
      each.hidden = !stays;
      shown += stays;
      for (const cell of document.querySelectorAll(`[data-column="${each.dataset.case}"]`))
        cell.classList.toggle("faded", !stays);
    }
    for (const group of document.querySelectorAll("section.group"))
      group.hidden = !group.querySelector("details.case:not([hidden])");
    document.getElementById("nothing").hidden = shown > 0;
    document.getElementById("shown").textContent = `${shown} of ${cases.length} cases`;
  };

  const unfold = document.getElementById("unfold");
  unfold.addEventListener("click", () => {
    const open = unfold.textContent === "Unfold all";
    for (const each of cases) each.open = open;
    unfold.textContent = open ? "Fold all" : "Unfold all";
  });

  // a link of the matrix shows its case, whatever is filtered
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const hidden = target && target.closest("details.case");
    if (!hidden) return;
    if (hidden.hidden) {
      form.reset();
      apply();
    }
    hidden.open = true;
    target.scrollIntoView();
  };

  const copy = async (button) => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // without the right to the clipboard: ready for Ctrl-C
      button.textContent = "Selected";
    }
    button.addEventListener("blur", () => (button.textContent = "Copy"), { once: true });
  };
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }

  form.addEventListener("input", apply);
  form.addEventListener("reset", () => queueMicrotask(apply)); // when the fields have their first values again
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", reveal);
  addEventListener("beforeprint", () => cases.forEach((each) => (each.open = true)));
  form.hidden = false;
  apply();
  reveal();
})();
