least => {
  const complaints = [], figures = [];
  const width = document.documentElement.clientWidth;

  for (const figure of document.querySelectorAll("[data-figure]")) {
    const key = figure.dataset.figure, box = figure.getBoundingClientRect();
    const shapes = [...figure.querySelectorAll("svg path, svg use, svg rect, .bar")].filter(shape => {
      const size = shape.getBoundingClientRect();
      return size.width + size.height > 1 && !shape.closest("defs");
    });
    if (box.width < 150 || box.height < 60 || shapes.length < 4)
      complaints.push(`figure: ${key} is ${Math.round(box.width)} x ${Math.round(box.height)} with ${shapes.length} shapes`);
    else figures.push(key);
    for (const text of figure.querySelectorAll("svg text")) {
      const place = text.getBoundingClientRect();
      if (place.width && (place.left < box.left - 2 || place.right > Math.max(box.right, width) + 2))
        complaints.push(`figure: ${key} has the text ${JSON.stringify(text.textContent)} cut off`);
    }
  }

  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map(k => top[k] * top[3] + under[k] * (1 - top[3]));
  const luminance = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const inDrawing = element => element instanceof SVGElement;
  const fillOf = element => {
    const style = getComputedStyle(element);
    if (inDrawing(element)) {
      if (["svg", "g", "text", "tspan"].includes(element.tagName) || style.fill === "none") return null;
      const colour = rgba(style.fill);
      return [...colour.slice(0, 3), colour[3] * style.fillOpacity * style.opacity];
    }
    return rgba(style.backgroundColor);
  };
  const sheet = matchMedia("print").matches ? [255, 255, 255] : null;
  const behind = (element, x, y) => {
    const stack = document.elementsFromPoint(x, y);
    const own = stack.indexOf(element);
    const layers = [];
    for (const under of own >= 0 ? stack.slice(inDrawing(element) ? own + 1 : own) : [element, ...stack]) {
      const fill = fillOf(under);
      if (fill && fill[3] > 0) layers.push(fill);
      if (fill && fill[3] >= 1) break;
    }
    let colour = sheet || rgba(getComputedStyle(document.documentElement).backgroundColor).slice(0, 3);
    for (const layer of layers.reverse()) colour = over(layer, colour);
    return colour;
  };

  let read = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.textContent.trim() || element.closest("title, desc, style, defs, .hidden, script")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const place = [...range.getClientRects()].find(rect => rect.width > 0 && rect.height > 0);
    const style = getComputedStyle(element);
    if (!place || style.visibility === "hidden") {
      complaints.push(`hidden: ${JSON.stringify(node.textContent.trim().slice(0, 40))}`);
      continue;
    }
    read += 1;
    const [x, y] = [place.left + place.width / 2, place.top + place.height / 2];
    // What scrolls sideways was opened up, and may leave the window; nothing else may.
    if (!document.elementsFromPoint(x, y).length && !(x > innerWidth && element.closest(".scroll")))
      complaints.push(`place: ${JSON.stringify(node.textContent.trim().slice(0, 40))} is at ${x}, ${y}, out of the window`);
    const under = behind(element, x, y);
    const text = rgba(inDrawing(element) ? style.fill : style.color);
    const size = parseFloat(style.fontSize);
    let opacity = 1;
    for (let parent = element; parent; parent = parent.parentElement) opacity *= getComputedStyle(parent).opacity;
    const ratio = contrast(over([...text.slice(0, 3), text[3] * opacity], under), under);
    if (ratio < least)
      complaints.push(`contrast: ${ratio.toFixed(2)} of ${JSON.stringify(node.textContent.trim().slice(0, 40))}`);
    const drawing = element.closest("svg[viewBox]");
    const scale = drawing && inDrawing(element) ? drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width : 1;
    if (size * scale < 9) complaints.push(`size: ${(size * scale).toFixed(1)} px of ${JSON.stringify(node.textContent.trim())}`);
  }
  if (read < 10) complaints.push(`text: only ${read} pieces of text are to be seen`);
  return {complaints, figures};
}
