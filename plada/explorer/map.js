"use strict";
// The map: points on a canvas, a lasso that lists them, a legend that lists a class.
(() => {
  const data = JSON.parse(document.getElementById("points").textContent);
  const canvas = document.getElementById("map");
  const pen = canvas.getContext("2d");
  const list = document.getElementById("list");
  const count = document.getElementById("count");
  const save = document.getElementById("save");
  const legend = document.getElementById("legend");
  const LISTED = 300; // pictures that are listed; the file of keys has all
  const COLOURS = ["#d1495b", "#00798c", "#edae49", "#30638e", "#5f9e3f", "#8e5ea2", "#c06014", "#3d348b", "#118ab2", "#9a6324", "#ef476f", "#2a9d8f"];
  const SHAPES = 4;
  const images = data.positions.length;
  const view = { x: 0, y: 0, size: 1 }; // the part that is shown, in shares of the whole
  let side = 0; // pixels of the canvas
  let lasso = [];
  let picked = [];

  const quiet = () => getComputedStyle(document.body).getPropertyValue("--was") || "#999";
  const ink = () => getComputedStyle(document.body).getPropertyValue("--accent") || "#06c";
  const at = (i) => [
    ((data.x[i] / data.scale - view.x) / view.size) * side,
    (1 - (data.y[i] / data.scale - view.y) / view.size) * side,
  ];

  const mark = (to, label, x, y, r) => {
    to.beginPath();
    const shape = Math.floor(label / COLOURS.length) % SHAPES;
    if (shape === 0) to.arc(x, y, r, 0, 7);
    else if (shape === 1) to.rect(x - r, y - r, 2 * r, 2 * r);
    else {
      const turned = shape === 2 ? 0 : Math.PI;
      for (let corner = 0; corner < 3; corner += 1) {
        const angle = turned - Math.PI / 2 + (corner * 2 * Math.PI) / 3;
        to[corner ? "lineTo" : "moveTo"](x + 1.4 * r * Math.cos(angle), y + 1.4 * r * Math.sin(angle));
      }
      to.closePath();
    }
    to.fillStyle = COLOURS[label % COLOURS.length];
    to.fill();
  };

  const draw = () => {
    const dots = window.devicePixelRatio || 1;
    side = canvas.clientWidth;
    canvas.width = canvas.height = Math.round(side * dots);
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.clearRect(0, 0, side, side);
    pen.fillStyle = quiet();
    for (let i = 0; i < images; i += 1) {
      if (data.labels[i] >= 0) continue;
      const [x, y] = at(i);
      pen.fillRect(x - 1, y - 1, 2, 2);
    }
    for (let i = 0; i < images; i += 1) {
      if (data.labels[i] >= 0) mark(pen, data.labels[i], ...at(i), 3.5);
    }
    pen.strokeStyle = ink();
    pen.lineWidth = 2;
    for (const i of picked) {
      const [x, y] = at(i);
      pen.strokeRect(x - 5, y - 5, 10, 10);
    }
    if (lasso.length > 1) {
      pen.beginPath();
      lasso.forEach(([x, y], place) => pen[place ? "lineTo" : "moveTo"](x, y));
      pen.closePath();
      pen.stroke();
    }
  };

  const show = (numbers) => {
    picked = numbers;
    list.replaceChildren();
    for (const i of picked.slice(0, LISTED)) {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = "/image/" + data.positions[i];
      link.title = data.keys[i];
      const frame = document.createElement("span");
      frame.className = "frame";
      const image = document.createElement("img");
      image.src = "/thumb/" + data.positions[i] + "?v=" + data.version;
      image.alt = data.keys[i];
      image.loading = "lazy";
      frame.append(image);
      link.append(frame);
      for (const [kind, text] of [["what", data.names[i]], ["key", data.keys[i]], ["mark", data.classes[data.labels[i]]]]) {
        if (!text) continue;
        const line = document.createElement("span");
        line.className = kind;
        line.dir = "auto";
        line.textContent = text;
        link.append(line);
      }
      item.append(link);
      list.append(item);
    }
    const more = picked.length > LISTED ? ", the first " + LISTED + " are listed" : "";
    count.textContent = picked.length ? picked.length + (picked.length === 1 ? " image" : " images") + more : "Nothing yet.";
    save.disabled = !picked.length;
    draw();
  };

  const inside = ([x, y], around) => {
    let within = false;
    for (let i = 0, j = around.length - 1; i < around.length; j = i, i += 1) {
      const [ax, ay] = around[i];
      const [bx, by] = around[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
    }
    return within;
  };
  const every = (test) => [...Array(images).keys()].filter(test);
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    lasso = [place(event)];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!lasso.length) return;
    lasso.push(place(event));
    draw();
  });
  const end = () => {
    const around = lasso;
    lasso = [];
    if (around.length > 2) show(every((i) => inside(at(i), around)));
    else draw();
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", () => { lasso = []; draw(); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [x, y] = place(event);
    const size = Math.min(1, Math.max(0.01, view.size * Math.exp(event.deltaY / 400)));
    const fix = [view.x + (x / side) * view.size, view.y + (1 - y / side) * view.size];
    view.x = Math.min(1 - size, Math.max(0, fix[0] - (x / side) * size));
    view.y = Math.min(1 - size, Math.max(0, fix[1] - (1 - y / side) * size));
    view.size = size;
    draw();
  }, { passive: false });
  canvas.addEventListener("dblclick", () => { Object.assign(view, { x: 0, y: 0, size: 1 }); draw(); });

  data.classes.forEach((name, label) => {
    const own = every((i) => data.labels[i] === label);
    const item = document.createElement("li");
    const button = document.createElement("button");
    const sign = document.createElement("canvas");
    button.type = "button";
    sign.width = sign.height = 14;
    sign.setAttribute("aria-hidden", "true");
    mark(sign.getContext("2d"), label, 7, 7, 5);
    button.append(sign, " " + name + " (" + own.length + ")");
    button.addEventListener("click", () => show(own));
    item.append(button);
    legend.append(item);
  });
  save.addEventListener("click", () => {
    const line = (key) => (/^["#]|^\s|\s$|[\u0000-\u001f\u007f-\u009f\u2028\u2029]|^$/u.test(key) ? JSON.stringify(key) : key);
    const text = picked.map((i) => line(data.keys[i]) + "\n").join("");
    const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = "keys.txt";
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
