// The images of a question: made small enough for a request, and drawn.
//
// A server takes 256 KiB of messages, and a conversation may hold several images, so each is a JPEG of at most MOST
// bytes. They are drawn on a canvas, because the page's policy forbids `data:` and `blob:` addresses as image sources.

const SIZES = [1024, 768, 512, 384]; // longest side (px)
const QUALITIES = [0.85, 0.65];
const MOST = 40_000; // bytes; as base64 these are 53,000 characters, and three such images fit

/** In: a file. Out: `{data (base64), media_type}`. Raises if this browser can't read it as an image. */
export async function readImage(file) {
  const bitmap = await createImageBitmap(file);
  try {
    for (const size of SIZES) {
      for (const quality of QUALITIES) {
        const blob = await jpegOf(bitmap, size, quality);
        if (blob.size <= MOST || (size === SIZES.at(-1) && quality === QUALITIES.at(-1))) {
          return { data: await base64(blob), media_type: "image/jpeg" };
        }
      }
    }
  } finally {
    bitmap.close();
  }
}

/** Draw a stored image. Out: a canvas, which is filled as soon as the image is decoded. */
export function drawImage({ data, media_type }) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "Image");
  const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  createImageBitmap(new Blob([bytes], { type: media_type })).then((bitmap) => {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }, () => canvas.remove());
  return canvas;
}

async function jpegOf(bitmap, size, quality) {
  const scale = Math.min(1, size / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // a JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no image"))), "image/jpeg", quality));
}

async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
