// Predictions by the model.onnx beside this file, in the browser: what predictor.py does, in JavaScript.
//
//   import { load } from "./predictor.js";
//   const model = await load();
//   console.log(await model.predict(readPixels(bitmap)));

import * as ort from "./onnxruntime-web/ort.wasm.bundle.min.mjs";
import { alignFace, findFaces } from "./faces.js";
import { classMap } from "./masks.js";
import { crop, resize, round } from "./pixels.js";

export async function load() {
  const settings = await (await fetchFile("predictor.json")).json();
  const session = await openNetwork("model.onnx");
  const detector = settings.face_detector ? await openNetwork(settings.face_detector) : null;
  return new Predictor(settings, session, detector);
}

async function openNetwork(file) {
  return ort.InferenceSession.create(await (await fetchFile(file)).arrayBuffer());
}

async function fetchFile(file) {
  const response = await fetch(file);
  if (!response.ok) throw new Error(`${file}: status ${response.status}; expected the folder that export wrote`);
  return response;
}

class Predictor {
  constructor(settings, session, detector) {
    this.settings = settings;
    this.session = session;
    this.detector = detector;
    this.size = session.inputMetadata[0].shape[3];
  }

  // What the model finds in a photo {data: RGBA, width, height}: the record of predictor.py, in the photo's pixels.
  async predict(photo) {
    if (!this.detector) return this.describe(await this.run(this.cropPart(photo)), photo);
    const faces = [];
    for (const face of await this.findFaces(photo)) {
      const record = this.describe(await this.run(this.cropFace(photo, face)), photo);
      faces.push({ face_box_xyxy: [face.x, face.y, face.x + face.width, face.y + face.height], ...record });
    }
    return { faces };
  }

  // The outputs by name for one image of any size.
  async run(image) {
    const pixels = new ort.Tensor("uint8", this.resize(image), [1, 3, this.size, this.size]);
    return this.session.run({ images: pixels });
  }

  resize(image) {
    const { size, settings } = this;
    if (settings.resize === "stretch") return resize(image, size, size, 0, 0, size, settings.antialias);
    const side = round(size / settings.crop_fraction);
    const scale = side / Math.min(image.height, image.width);
    const wide = Math.max(side, round(image.width * scale));
    const high = Math.max(side, round(image.height * scale));
    return resize(image, wide, high, (wide - size) >> 1, (high - size) >> 1, size, true);
  }

  // The part of the photo that the model was trained on; by default all of it.
  cropPart(photo) {
    let [x0, y0, x1, y1] = this.settings.part.map((f, i) => round(f * (i % 2 ? photo.height : photo.width)));
    [x0, y0] = [Math.min(x0, photo.width - 1), Math.min(y0, photo.height - 1)];
    return crop(photo, x0, y0, Math.max(x1 - x0, 1), Math.max(y1 - y0, 1));
  }

  async findFaces(photo) {
    const run = (values, high, wide) =>
      this.detector.run({ input: new ort.Tensor("float32", values, [1, 3, high, wide]) });
    const faces = await findFaces(run, photo, this.settings.min_face_score);
    if (this.settings.faces === "all") return faces;
    return this.settings.faces === "largest" || faces.length === 1 ? faces.slice(0, 1) : [];
  }

  // The face turned upright, or its box made square and enlarged around its centre.
  cropFace(photo, face) {
    if (this.settings.face_crop === "aligned") return alignFace(photo, face.landmarks);
    const side = Math.max(1, round(this.settings.face_scale * Math.max(face.width, face.height)));
    const left = round((2 * face.x + face.width - side) / 2);
    return crop(photo, left, round((2 * face.y + face.height - side) / 2), side, side);
  }

  describe(outputs, photo) {
    const values = this.session.outputNames.map((name) => outputs[name].data);
    return DESCRIBE[this.settings.task](values, this.settings, this.size, photo);
  }
}

const DESCRIBE = {
  detection([boxes, scores, classIds], settings, size, { width, height }) {
    const detections = [];
    scores.forEach((score, i) => {
      if (!(score > 0 && score >= settings.threshold)) return;
      const box = Array.from(boxes.slice(4 * i, 4 * i + 4), (value, j) => (value * (j % 2 ? height : width)) / size);
      detections.push({ class_name: settings.names[Number(classIds[i])], score, box_xyxy: box });
    });
    return { detections };
  },
  classification([probabilities], { names }) {
    return { classes: best(probabilities).map((i) => ({ class_name: names[i], probability: probabilities[i] })) };
  },
  attributes([values], { names }) {
    return { attributes: Object.fromEntries(names.map((name, i) => [name, values[i]])) };
  },
  embedding([values]) {
    return { embedding: Array.from(values) };
  },
  geolocation([probabilities], settings) {
    const sums = new Array(settings.regions.length).fill(0);
    settings.region_of_cell.forEach((region, cell) => (sums[region] += probabilities[cell]));
    const found = best(sums).filter((i) => sums[i] > 0);
    return { regions: found.map((i) => ({ ...settings.regions[i], probability: sums[i] })) };
  },
  segmentation([, logits], { names }, size, photo) {
    const classIds = classMap(logits, names.length, photo);
    const counts = new Array(names.length).fill(0);
    for (const id of classIds) counts[id]++;
    const found = [...counts.keys()].filter((i) => counts[i] > 0).sort((a, b) => counts[b] - counts[a]);
    const classes = found.map((i) => ({ class_name: names[i], fraction: counts[i] / classIds.length }));
    return { classes, class_ids: classIds }; // row by row, of the photo
  },
};

// The places of the five largest values, the largest first.
function best(values) {
  return Array.from(values.keys())
    .sort((a, b) => values[b] - values[a])
    .slice(0, 5);
}
