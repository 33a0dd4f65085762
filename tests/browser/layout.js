// Returns a sentence for each box of the page that is cut, lies on another one, or sticks out of the window.
() => {
  const found = [];
  const name = (one) => `${one.tagName.toLowerCase()}${one.id ? "#" + one.id : ""} "${(one.textContent || "").trim().slice(0, 30)}"`;
  const shown = (one) => one.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && one.getClientRects().length > 0;
  const root = document.documentElement;
  if (root.scrollWidth > window.innerWidth) found.push(`the page is ${root.scrollWidth} wide, the window ${window.innerWidth}`);

  const scrolls = (one) => one.closest(".scroll, .boxes, .trend");
  const boxes = [...document.querySelectorAll("main h2, main h3, main p, main li, dt, dd, pre, .card, .drawing, fieldset, th, td, select, input, main button, summary, header h1, header li, footer p")]
    .filter((one) => shown(one) && !one.matches(".skip"));
  for (const one of boxes) {
    const box = one.getBoundingClientRect();
    if (!scrolls(one) && (box.left < -1 || box.right > window.innerWidth + 1)) found.push(`${name(one)} sticks out`);
    const style = getComputedStyle(one);
    if (!one.matches("select, input, .drawing") && style.overflowX !== "visible" && style.overflowX !== "auto" && one.scrollWidth > one.clientWidth + 1) found.push(`${name(one)} is cut`);
    if (one.matches("th, td, dt, dd, p, li, h2, h3") && one.scrollWidth > one.clientWidth + 1 && style.display !== "inline") found.push(`the text of ${name(one)} is wider than its box`);
  }
  const overlap = (a, b) => Math.min(Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
  const rects = boxes.map((one) => [one, one.getBoundingClientRect()]);
  rects.forEach(([one, mine], i) => {
    for (const [other, theirs] of rects.slice(i + 1)) {
      if (one.contains(other) || other.contains(one)) continue;
      if (scrolls(one) !== scrolls(other) && (scrolls(one) || scrolls(other))) continue; // clipped by their own regions
      if (overlap(mine, theirs) > 1.5) found.push(`${name(one)} lies on ${name(other)}`);
    }
  });

  for (const image of document.querySelectorAll("img")) {
    if (!image.complete || image.naturalWidth === 0) found.push(`${image.alt} is not drawn`);
    if (Math.abs(image.width / image.height - image.naturalWidth / image.naturalHeight) > 0.02) found.push(`${image.alt} is distorted`);
  }
  for (const drawing of document.querySelectorAll(".drawing")) {
    if (!shown(drawing)) continue;
    const chart = drawing.closest("figure").id;
    const frame = drawing.getBoundingClientRect();
    const texts = [...drawing.querySelectorAll("svg text")].filter((one) => shown(one) && one.textContent && one.getAttribute("opacity") !== "0");
    for (const text of texts) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) found.push(`${chart}: "${text.textContent}" is cut`);
    }
    for (const label of drawing.querySelectorAll(".role-axis-label text")) {
      if (label.style.visibility === "hidden") found.push(`${chart}: the label "${label.textContent}" of an axis is hidden`);
    }
    texts.forEach((one, i) => {
      for (const other of texts.slice(i + 1)) {
        if (overlap(one.getBoundingClientRect(), other.getBoundingClientRect()) > 2) found.push(`${chart}: "${one.textContent}" lies on "${other.textContent}"`);
      }
    });
  }
  return found;
}
