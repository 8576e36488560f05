// Images as {data: RGBA bytes, width, height}: reading, cropping, resizing. No dependency on a page but readPixels.

// The pixels of an ImageBitmap, a video or a canvas.
export function readPixels(source) {
  const [width, height] = [source.videoWidth ?? source.width, source.videoHeight ?? source.height];
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0);
  return context.getImageData(0, 0, width, height);
}

// The nearest integer, of two equally near the even one: Python's round.
export function round(x) {
  const nearest = Math.round(x);
  return Math.abs(x % 1) === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

// A rectangle of an image; outside the image its border is repeated.
export function crop(image, left, top, width, height) {
  if (left === 0 && top === 0 && width === image.width && height === image.height) return image;
  const clamp = (value, length) => Math.min(Math.max(value, 0), length - 1);
  const source = new Uint32Array(image.data.buffer, image.data.byteOffset, image.width * image.height);
  const target = new Uint32Array(width * height);
  for (let y = 0; y < height; y++) {
    const row = clamp(top + y, image.height) * image.width;
    for (let x = 0; x < width; x++) target[y * width + x] = source[row + clamp(left + x, image.width)];
  }
  return { data: new Uint8ClampedArray(target.buffer), width, height };
}

// A square of `size` pixels at (left, top) of the image resized to wide x high, as red, green and blue planes of bytes.
// Pillow's bilinear filter; without antialias the nearest two pixels alone count, as in OpenCV's INTER_LINEAR.
// A canvas's own drawImage filters differently in each browser.
export function resize(image, wide, high, left, top, size, antialias) {
  const columns = weights(image.width, wide, left, size, antialias);
  const rows = weights(image.height, high, top, size, antialias);
  const first = rows[0].start;
  const last = rows[size - 1].start + rows[size - 1].values.length;
  const half = antialias ? 0.5 : 0; // Pillow rounds between the two passes, OpenCV does not
  const narrow = new (antialias ? Uint8Array : Float32Array)((last - first) * size * 3);
  for (let y = first, at = 0; y < last; y++) {
    for (const { start, values } of columns) {
      let [red, green, blue] = [half, half, half];
      for (let i = 0, from = (y * image.width + start) * 4; i < values.length; i++, from += 4) {
        red += values[i] * image.data[from];
        green += values[i] * image.data[from + 1];
        blue += values[i] * image.data[from + 2];
      }
      narrow[at++] = red;
      narrow[at++] = green;
      narrow[at++] = blue;
    }
  }
  const planes = new Uint8Array(3 * size * size);
  rows.forEach(({ start, values }, y) => {
    for (let x = 0; x < size; x++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0.5;
        for (let i = 0, from = ((start - first) * size + x) * 3 + channel; i < values.length; i++, from += 3 * size)
          sum += values[i] * narrow[from];
        planes[(channel * size + y) * size + x] = sum;
      }
    }
  });
  return planes;
}

// For each of `count` pixels of a resized axis, from `first` on: the pixels before, and how much each counts.
function weights(before, after, first, count, antialias) {
  const scale = before / after;
  const reach = antialias ? Math.max(scale, 1) : 1;
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const start = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(before, Math.floor(centre + reach + 0.5));
    const weight = (_, j) => Math.max(0, 1 - Math.abs(start + j + 0.5 - centre) / reach);
    const values = new Float64Array(end - start).map(weight);
    const sum = values.reduce((a, b) => a + b);
    return { start, values: values.map((value) => value / sum) };
  });
}
