// The server that this page came from.

import { Headrace } from "./headrace.js";
import { askKey, key } from "./key.js";

/** Its client. It asks the reader for a key where the server wants one, until one is taken. */
export const headrace = new Headrace({
  baseUrl: new URL("..", import.meta.url).href, // the page may stand under any path
  key: async (refused) => {
    if (refused === undefined) return key();
    do await askKey(refused || null);
    while (key() === refused);
    return key();
  },
});
