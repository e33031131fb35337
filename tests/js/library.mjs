// Reads an answer by a snippet of docs/clients.md: node library.mjs SNIPPET URL CURSOR [polyfill]. Prints its text.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [snippet, url, cursor, polyfill] = process.argv.slice(2);
const require = createRequire(import.meta.url);
// What a browser has.
globalThis.window = globalThis;
globalThis.addEventListener ??= () => {};
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
globalThis.XMLHttpRequest ??= undefined;
globalThis.XDomainRequest ??= undefined;
globalThis.EventSource = (await import("eventsource")).EventSource;

const { answer } = await import(pathToFileURL(snippet));
const Source = polyfill ? require("event-source-polyfill").EventSourcePolyfill : undefined;
const text = await answer(url, cursor, Source);
process.stdout.write(text, () => process.exit(0));
