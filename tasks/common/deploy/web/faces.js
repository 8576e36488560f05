// The faces of a photo by YuNet, and a face turned upright: what OpenCV does in predictor.py.

import { round } from "./pixels.js";

const ALIGNED_PX = 224;
// Where the eyes, the nose and the corners of the mouth are in an aligned face of 112 pixels (ArcFace's).
const LANDMARKS = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]];
const MAX_SIDE_PX = 640; // larger photos are reduced to find their faces
const MAX_IOU = 0.3;

// Faces {x, y, width, height, landmarks, score} in pixels of the photo, the largest first.
// `run` is the network: (values, height, width) -> its outputs by name.
export async function findFaces(run, photo, minScore) {
  const scale = Math.min(1, MAX_SIDE_PX / Math.max(photo.width, photo.height));
  const [width, height] = [photo.width, photo.height].map((length) => Math.max(1, round(length * scale)));
  const [wide, high] = [width, height].map((length) => Math.ceil(length / 32) * 32);
  const outputs = await run(reduce(photo, width, height, wide, high), high, wide);
  const found = [8, 16, 32].flatMap((stride) => decode(outputs, stride, wide / stride, minScore));
  found.sort((a, b) => b.score - a.score);
  const kept = [];
  for (const face of found) if (kept.every((other) => iou(face, other) <= MAX_IOU)) kept.push(face);
  for (const face of kept) {
    for (const key of ["x", "y", "width", "height"]) face[key] /= scale;
    face.landmarks = face.landmarks.map((point) => point.map((value) => value / scale));
  }
  return kept.sort((a, b) => b.width * b.height - a.width * a.height);
}

// The photo reduced by area averaging, as blue, green and red planes with zeros to the right and below.
function reduce(photo, width, height, wide, high) {
  const planes = new Float32Array(3 * wide * high);
  const [scaleX, scaleY] = [photo.width / width, photo.height / height];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [left, right, top, bottom] = [x * scaleX, (x + 1) * scaleX, y * scaleY, (y + 1) * scaleY];
      const sums = [0, 0, 0];
      for (let row = Math.floor(top); row < Math.min(bottom, photo.height); row++) {
        const part = Math.min(bottom, row + 1) - Math.max(top, row);
        for (let column = Math.floor(left); column < Math.min(right, photo.width); column++) {
          const weight = part * (Math.min(right, column + 1) - Math.max(left, column));
          const from = (row * photo.width + column) * 4;
          for (let channel = 0; channel < 3; channel++) sums[channel] += weight * photo.data[from + 2 - channel];
        }
      }
      for (let channel = 0; channel < 3; channel++)
        planes[(channel * high + y) * wide + x] = Math.round(sums[channel] / (scaleX * scaleY));
    }
  }
  return planes;
}

function decode(outputs, stride, columns, minScore) {
  const names = ["cls", "obj", "bbox", "kps"];
  const [scores, objectness, boxes, points] = names.map((name) => outputs[`${name}_${stride}`].data);
  const unit = (value) => Math.min(Math.max(value, 0), 1);
  const faces = [];
  for (let i = 0; i < scores.length; i++) {
    const score = Math.sqrt(unit(scores[i]) * unit(objectness[i]));
    if (score < minScore) continue;
    const [column, row] = [i % columns, Math.floor(i / columns)];
    const [dx, dy, logWidth, logHeight] = boxes.slice(4 * i, 4 * i + 4);
    const [width, height] = [Math.exp(logWidth) * stride, Math.exp(logHeight) * stride];
    const [x, y] = [(column + dx) * stride - width / 2, (row + dy) * stride - height / 2];
    const landmarks = LANDMARKS.map((_, n) => [
      (column + points[10 * i + 2 * n]) * stride,
      (row + points[10 * i + 2 * n + 1]) * stride,
    ]);
    faces.push({ x, y, width, height, landmarks, score });
  }
  return faces;
}

function iou(a, b) {
  const wide = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const high = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  const shared = Math.max(wide, 0) * Math.max(high, 0);
  return shared / (a.width * a.height + b.width * b.height - shared);
}

// The photo turned, scaled and shifted so that the landmarks are nearest to where they belong; black outside.
export function alignFace(photo, landmarks) {
  const targets = LANDMARKS.map((point) => point.map((value) => (value * ALIGNED_PX) / 112));
  const [[meanX, meanY], [meanU, meanV]] = [landmarks, targets].map(mean);
  let [along, across, spread] = [0, 0, 0];
  landmarks.forEach(([x, y], i) => {
    const [dx, dy, du, dv] = [x - meanX, y - meanY, targets[i][0] - meanU, targets[i][1] - meanV];
    along += dx * du + dy * dv;
    across += dx * dv - dy * du;
    spread += dx * dx + dy * dy;
  });
  const square = along * along + across * across; // of the inverse, which leads from an aligned pixel to the photo
  const [a, b] = [(along * spread) / square, (-across * spread) / square];
  const data = new Uint8ClampedArray(4 * ALIGNED_PX * ALIGNED_PX);
  for (let v = 0, at = 0; v < ALIGNED_PX; v++) {
    for (let u = 0; u < ALIGNED_PX; u++) {
      const x = meanX + a * (u - meanU) - b * (v - meanV);
      const y = meanY + b * (u - meanU) + a * (v - meanV);
      for (let channel = 0; channel < 4; channel++) data[at++] = interpolate(photo, x, y, channel);
    }
  }
  return { data, width: ALIGNED_PX, height: ALIGNED_PX };
}

function mean(points) {
  return [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
}

function interpolate(photo, x, y, channel) {
  const [left, top] = [Math.floor(x), Math.floor(y)];
  let sum = 0;
  for (const [column, partX] of [[left, left + 1 - x], [left + 1, x - left]]) {
    for (const [row, partY] of [[top, top + 1 - y], [top + 1, y - top]]) {
      const isInside = column >= 0 && row >= 0 && column < photo.width && row < photo.height;
      if (isInside) sum += partX * partY * photo.data[(row * photo.width + column) * 4 + channel];
    }
  }
  return sum;
}
