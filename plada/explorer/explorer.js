"use strict";
// Everything works without this: it saves a click where a picture is chosen, and lets arrow keys go from picture to picture.
(() => {
  const LARGEST = 20000000; // bytes, as the server takes them
  const form = document.querySelector("form.upload");
  if (form) {
    const input = form.querySelector("input[type=file]");
    const said = form.querySelector("output");
    document.documentElement.classList.add("ready");
    const send = (files) => {
      const picture = [...files].find((file) => file.type.startsWith("image/"));
      if (!picture) {
        said.textContent = "That is not a picture.";
      } else if (picture.size > LARGEST) {
        said.textContent = "That picture has more than 20 MB: make it smaller.";
      } else {
        if (input.files !== files) {
          const chosen = new DataTransfer();
          chosen.items.add(picture);
          input.files = chosen.files;
        }
        said.textContent = "Searching…";
        form.submit();
      }
    };
    input.addEventListener("change", () => { if (input.files.length) send(input.files); });
    document.addEventListener("paste", (event) => {
      if (event.clipboardData && event.clipboardData.files.length) send(event.clipboardData.files);
    });
    const dropping = (on) => document.body.classList.toggle("dropping", on);
    document.addEventListener("dragover", (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      dropping(true);
    });
    document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) dropping(false); });
    document.addEventListener("drop", (event) => {
      if (!event.dataTransfer.files.length) return;
      event.preventDefault();
      dropping(false);
      send(event.dataTransfer.files);
    });
    // Back from a search the page may be shown as it was left.
    window.addEventListener("pageshow", () => { said.textContent = ""; });
  }

  const order = document.querySelector("form.order");
  if (order) {
    const slider = order.querySelector("input[type=range]");
    slider.addEventListener("input", () => { order.querySelector("output").textContent = slider.value; });
    slider.addEventListener("change", () => order.submit());
  }

  for (const list of document.querySelectorAll(".shots")) {
    const links = [...list.querySelectorAll("a")];
    list.addEventListener("keydown", (event) => {
      const at = links.indexOf(document.activeElement);
      if (at < 0 || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
      const top = links[0].getBoundingClientRect().top;
      const columns = links.filter((link) => link.getBoundingClientRect().top === top).length;
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
      const to = { Home: 0, End: links.length - 1 }[event.key] ?? (event.key in steps ? at + steps[event.key] : undefined);
      if (to === undefined || !links[to]) return;
      event.preventDefault();
      links[to].focus();
    });
  }
})();
