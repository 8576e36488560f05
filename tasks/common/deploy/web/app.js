// The page: takes a photo or the camera's frames, and shows what the model finds in them.

import { load } from "./predictor.js";
import { paintMask } from "./masks.js";
import { readPixels } from "./pixels.js";
import { drawBoxes, listOf } from "./show.js";

const ids = ["choose", "camera", "file", "status", "picture", "found"];
const [choose, cameraButton, file, status, picture, found] = ids.map((id) => document.getElementById(id));
let model = null;
let camera = null; // the running camera's MediaStream
let queue = Promise.resolve(); // one photo after the other

async function show(source) {
  const photo = readPixels(source);
  const start = performance.now();
  const record = await model.predict(photo);
  const ms = performance.now() - start;
  [picture.width, picture.height] = [photo.width, photo.height];
  const context = picture.getContext("2d");
  if (record.class_ids) paintMask(photo, record.class_ids, model.settings.colours);
  context.putImageData(photo, 0, 0);
  drawBoxes(context, record);
  found.replaceChildren(...listOf(record, model.settings));
  // For scripts and tests, without arrays of pixels.
  found.dataset.record = JSON.stringify(record, (_, value) => (ArrayBuffer.isView(value) ? undefined : value));
  status.textContent = `${ms.toFixed(0)} ms for a photo of ${photo.width} x ${photo.height}`;
}

async function showFile(photo) {
  stopCamera();
  // As OpenCV reads it: turned as EXIF says, without the colour profile.
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(photo, options).catch(() => {
    throw new Error(`${photo.name}: not a picture that this browser can read`);
  });
  await show(bitmap);
}

async function startCamera() {
  const video = document.createElement("video");
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  camera = stream;
  cameraButton.textContent = "Stop the camera";
  video.srcObject = stream;
  video.muted = video.playsInline = true;
  await video.play();
  while (camera === stream) {
    await show(video);
    await new Promise(requestAnimationFrame); // lets the browser draw
  }
}

function stopCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
  cameraButton.textContent = "Use the camera";
}

function attempt(action) {
  queue = queue.then(action).catch((error) => {
    stopCamera();
    status.textContent = `Error: ${error.message}`;
  });
}

function takeFiles(files) {
  stopCamera(); // whose loop is what the queue waits for
  if (files.length) attempt(() => showFile(files[0]));
}

choose.addEventListener("click", () => {
  file.value = ""; // so that the same photo again is a change
  file.click();
});
file.addEventListener("change", () => takeFiles(file.files));
cameraButton.addEventListener("click", () => (camera ? stopCamera() : attempt(startCamera)));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragged");
});
addEventListener("dragleave", () => document.body.classList.remove("dragged"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragged");
  if (model) takeFiles(event.dataTransfer.files);
});

attempt(async () => {
  status.textContent = "Loading the model";
  model = await load();
  choose.disabled = false;
  cameraButton.disabled = !navigator.mediaDevices; // which browsers have on https and 127.0.0.1 alone
  status.textContent = "Ready";
});
