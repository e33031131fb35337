// The server that this page came from.

import { Headrace } from "./headrace.js";
import { askKey, key } from "./key.js";

/** The client for it. If the server wants a key, it asks the reader for one until the server accepts it. */
export const headrace = new Headrace({
  baseUrl: new URL("..", import.meta.url).href, // the page may stand under any path
  key: async (refused) => {
    if (refused === undefined) return key();
    do await askKey(refused || null);
    while (key() === refused);
    return key();
  },
});
