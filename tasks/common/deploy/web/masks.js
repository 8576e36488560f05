// The class of each pixel of a photo, and a photo under its classes.

const OPACITY = 0.6; // of the classes' colours over the photo

// Which class has the highest logit, after bilinear resizing of logits (K, side, side) to the photo's size.
export function classMap(logits, numClasses, { width, height }) {
  const side = Math.sqrt(logits.length / numClasses);
  const [rows, columns] = [neighbours(height, side), neighbours(width, side)];
  const between = new Float32Array(side * numClasses); // the logits of a row of the photo, at the columns of the map
  const best = new Uint8Array(side);
  const classIds = new Uint8Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    const [above, below, down] = [rows.before[y] * side, rows.after[y] * side, rows.part[y]];
    for (let column = 0, to = 0; column < side; column++) {
      for (let k = 0, plane = column; k < numClasses; k++, plane += side * side)
        between[to++] = (1 - down) * logits[plane + above] + down * logits[plane + below];
      best[column] = highest(between, column, column, 0, numClasses);
    }
    for (let x = 0; x < width; x++) {
      const [left, right] = [columns.before[x], columns.after[x]];
      // Between two columns each logit is a linear function: the highest at both is the highest between them.
      const isSame = best[left] === best[right];
      classIds[at++] = isSame ? best[left] : highest(between, left, right, columns.part[x], numClasses);
    }
  }
  return classIds;
}

// For each pixel of a photo's axis the two pixels of the map around its centre, and how near it is to the second one.
function neighbours(length, side) {
  const [before, after, part] = [new Int32Array(length), new Int32Array(length), new Float32Array(length)];
  for (let i = 0; i < length; i++) {
    const centre = Math.min(Math.max(((i + 0.5) * side) / length - 0.5, 0), side - 1);
    before[i] = Math.floor(centre);
    after[i] = Math.min(before[i] + 1, side - 1);
    part[i] = centre - before[i];
  }
  return { before, after, part };
}

function highest(logits, left, right, part, numClasses) {
  let [found, most] = [0, -Infinity];
  for (let k = 0, i = left * numClasses, j = right * numClasses; k < numClasses; k++) {
    const logit = (1 - part) * logits[i++] + part * logits[j++];
    if (logit > most) [found, most] = [k, logit];
  }
  return found;
}

// Change a photo, in place, into a grey one under the colours of its classes; a class without a colour stays grey.
export function paintMask(photo, classIds, colours) {
  const { data } = photo;
  for (let i = 0, at = 0; i < classIds.length; i++, at += 4) {
    const grey = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
    const colour = colours[classIds[i]];
    for (let channel = 0; channel < 3; channel++)
      data[at + channel] = colour ? OPACITY * colour[channel] + (1 - OPACITY) * grey : grey;
  }
}
