// A record of predictor.js as boxes on a canvas and as lines of a list.

const NUM_ATTRIBUTES = 10; // the most probable ones
const MIN_FRACTION = 0.005; // of the photo's pixels, of a class in the list after the first
let previous = null; // the embedding of the photo before, or of its largest face

export function drawBoxes(context, { detections = [], faces = [] }) {
  const unit = Math.max(context.canvas.width, context.canvas.height) / 100;
  const colours = new Map();
  for (const { class_name } of detections)
    if (!colours.has(class_name)) colours.set(class_name, `hsl(${colours.size * 67} 85% 30%)`);
  for (const { class_name, score, box_xyxy } of detections.toReversed()) // the best on top
    drawBox(context, unit, box_xyxy, `${class_name} ${score.toFixed(2)}`, colours.get(class_name));
  faces.forEach(({ face_box_xyxy }, i) => drawBox(context, unit, face_box_xyxy, `${i + 1}`, "hsl(210 85% 30%)"));
}

function drawBox(context, unit, [x0, y0, x1, y1], label, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = Math.max(1, unit * 0.4);
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.font = `${Math.max(10, 2.4 * unit)}px sans-serif`;
  context.textBaseline = "top";
  const [width, height] = [context.measureText(label).width + unit, Math.max(12, 3 * unit)];
  const [left, top] = [Math.max(0, x0), Math.max(0, y0 - height)];
  context.fillRect(left, top, width, height);
  context.fillStyle = "white";
  context.fillText(label, left + unit / 2, top + unit / 4);
}

// `settings` are those of predictor.json.
export function listOf(record, settings) {
  if (record.class_ids) return legendOf(record, settings);
  const lines = record.faces?.flatMap((face, i) => [heading(`Face ${i + 1}`), ...linesOf(face)]) ?? linesOf(record);
  previous = (record.faces?.[0] ?? record).embedding ?? previous;
  return lines.length ? lines : [line(record.faces ? "no face found" : "nothing found")];
}

function linesOf({ detections, classes, attributes, regions, embedding }) {
  if (embedding && !previous) return [line("The next photo is compared with this one.")];
  const named = [
    ...(detections ?? []).map(({ class_name, score }) => [class_name, score]),
    ...(classes ?? []).map(({ class_name, probability }) => [class_name, probability]),
    ...(regions ?? []).map(({ name, probability }) => [name, probability]),
    ...Object.entries(attributes ?? {}).sort(([, a], [, b]) => b - a).slice(0, NUM_ATTRIBUTES),
    ...(embedding ? [["similarity (cosine) to the photo before", dot(embedding, previous)]] : []),
  ];
  return named.map(([name, value]) => bar(name, value));
}

// The classes of pixels with their colours and fractions.
function legendOf({ classes }, { names, colours }) {
  const shown = classes.filter(({ fraction }, i) => i === 0 || fraction >= MIN_FRACTION);
  return shown.map(({ class_name, fraction }) => {
    const item = bar(class_name, fraction);
    const colour = colours[names.indexOf(class_name)];
    item.firstChild.style.borderLeft = `1em solid ${colour ? `rgb(${colour})` : "transparent"}`;
    item.firstChild.style.paddingLeft = ".5em";
    return item;
  });
}

function dot(a, b) {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}

function bar(name, value) {
  const item = document.createElement("li");
  const meter = Object.assign(document.createElement("meter"), { value });
  item.append(element("span", name), meter, element("span", value.toFixed(2)));
  return item;
}

function line(text) {
  const item = element("li", text);
  item.className = "text";
  return item;
}

function heading(text) {
  const item = document.createElement("li");
  item.append(element("b", text));
  return item;
}

function element(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}
