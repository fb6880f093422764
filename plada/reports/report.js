"use strict";
// A person's corrections: pictures that are rejected or called otherwise, as the files that plada select reads.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const bar = document.getElementById("corrections");
  const select = document.getElementById("class");
  const count = document.getElementById("count");
  const buttons = new Map([["exclude", document.getElementById("get-exclude")], ["relabel", document.getElementById("get-relabel")]]);
  const clear = document.getElementById("clear");
  const shots = [...document.querySelectorAll(".shots button")];
  const rejected = new Set(); // numbers of pictures
  const renamed = new Map(); // number of a picture: number of a class
  const saved = { exclude: true, relabel: true };

  const acting = () => document.querySelector("input[name=act]:checked").value;

  // A line of text would lose what is not plain in a key: such a key is written as a JSON string, as plada reads it.
  const line = (key) =>
    /^["#]|^\s|\s$|[\u0000-\u001f\u007f-\u009f\u2028\u2029]|^$/u.test(key)
      ? JSON.stringify(key).replace(/[\u007f-\u009f\u2028\u2029]/gu, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"))
      : key;
  // A cell that a spreadsheet would take for a formula has an apostrophe before it, as plada reads it.
  const cell = (raw) => {
    const text = /^'*[=+\-@\t\r]/u.test(raw) ? "'" + raw : raw;
    return /[",\r\n]|^\s|\s$/u.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };

  const inOrder = (numbers) => [...numbers].sort((a, b) => a - b);
  const texts = {
    exclude: () => [...data.excluded, ...inOrder(rejected).map((i) => data.keys[i])].map((key) => line(key) + "\n").join(""),
    relabel: () =>
      "key,label\n" +
      [...data.relabelled, ...inOrder(renamed.keys()).map((i) => [data.keys[i], data.classes[renamed.get(i)]])]
        .map(([key, label]) => cell(key) + "," + cell(label) + "\n")
        .join(""),
  };
  const names = { exclude: "exclude.txt", relabel: "relabel.csv" };

  const show = (button) => {
    const i = Number(button.dataset.i);
    const corrected = rejected.has(i) || renamed.has(i);
    button.setAttribute("aria-pressed", String(corrected));
    button.classList.toggle("rejected", rejected.has(i));
    let mark = button.querySelector(".mark");
    if (!corrected) {
      if (mark) mark.remove();
      return;
    }
    if (!mark) {
      mark = document.createElement("span");
      mark.className = "mark";
      button.append(mark);
    }
    mark.textContent = rejected.has(i) ? "rejected" : "is " + data.classes[renamed.get(i)];
  };

  const tell = () => {
    const parts = [];
    if (rejected.size) parts.push(rejected.size + " rejected");
    if (renamed.size) parts.push(renamed.size + " called otherwise");
    count.textContent = parts.join(", ") || "no corrections yet";
    buttons.get("exclude").disabled = !rejected.size;
    buttons.get("relabel").disabled = !renamed.size;
    clear.disabled = !parts.length;
  };

  const correct = (button) => {
    const i = Number(button.dataset.i);
    if (acting() === "reject") {
      renamed.delete(i);
      if (!rejected.delete(i)) rejected.add(i);
    } else {
      const wanted = Number(select.value);
      rejected.delete(i);
      if (renamed.get(i) === wanted || data.labels[i] === wanted) renamed.delete(i);
      else renamed.set(i, wanted);
    }
    saved.exclude = !rejected.size;
    saved.relabel = !renamed.size;
    show(button);
    tell();
  };

  const download = (kind) => {
    const url = URL.createObjectURL(new Blob([texts[kind]()], { type: "text/plain" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = names[kind];
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    saved[kind] = true;
  };

  // One stop of the Tab key for each class; arrows go from picture to picture.
  for (const list of document.querySelectorAll(".shots")) {
    const own = [...list.querySelectorAll("button")];
    own.forEach((button, at) => { button.tabIndex = at ? -1 : 0; });
    list.addEventListener("keydown", (event) => {
      const at = own.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: own.length - 1 }[event.key];
      if (at < 0 || to === undefined || !own[to]) return;
      event.preventDefault();
      own[at].tabIndex = -1;
      own[to].tabIndex = 0;
      own[to].focus();
    });
  }
  for (const button of shots) button.addEventListener("click", () => correct(button));
  for (const [kind, button] of buttons) button.addEventListener("click", () => download(kind));
  clear.addEventListener("click", () => {
    const touched = shots.filter((button) => button.getAttribute("aria-pressed") === "true");
    rejected.clear();
    renamed.clear();
    saved.exclude = saved.relabel = true;
    touched.forEach(show);
    tell();
  });
  data.classes.forEach((name, number) => select.add(new Option(name, String(number))));
  select.addEventListener("change", () => { document.getElementById("act-relabel").checked = true; });
  window.addEventListener("beforeunload", (event) => { if (!saved.exclude || !saved.relabel) event.preventDefault(); });
  window.addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
  if (shots.length) bar.hidden = false;
  tell();
})();
