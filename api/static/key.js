// The API key of this page: asked for when the server wants one, and sent with every call.
//
// It is stored for this tab, or, if the reader wants that, on this device. Any script on this page could read it from
// either place, so the page's policy allows no other script.

import { device, tab } from "./store.js";

const NAME = "headrace:key";

const dialog = document.querySelector("#key");
const field = document.querySelector("#key-secret");
const forget = document.querySelector("#forget");
let asking = null; // the promise of the open dialog: one, however many calls wait for it

/** The key, or null. */
export const key = () => tab.get(NAME) ?? device.get(NAME);

/** Ask for a key; `refused` is the one that the server did not accept. Resolves once there is another key. */
export function askKey(refused) {
  if (key() !== refused) return Promise.resolve();
  forgetKey();
  asking ??= new Promise((resolve) => {
    document.querySelector("#key-refused").hidden = !refused;
    const submitted = (event) => {
      event.preventDefault();
      const secret = field.value.trim();
      if (!secret) return;
      keep(secret, document.querySelector("#key-remember").checked);
      field.value = "";
      dialog.removeEventListener("submit", submitted);
      asking = null;
      dialog.close();
      resolve();
    };
    dialog.addEventListener("submit", submitted);
    dialog.showModal();
  });
  return asking;
}

function forgetKey() {
  tab.remove(NAME);
  device.remove(NAME);
  forget.hidden = true;
}

function keep(secret, remembered) {
  tab.set(NAME, secret);
  if (remembered) device.set(NAME, secret);
  forget.hidden = false;
}

forget.hidden = !key();
forget.addEventListener("click", () => {
  forgetKey();
  location.reload();
});

// Without a key nothing works here, so the dialog stays, even after Esc.
dialog.addEventListener("cancel", (event) => event.preventDefault());
dialog.addEventListener("close", () => asking && dialog.showModal());
