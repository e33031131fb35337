// The API as this page uses it. No DOM but for the question for a key (see key.js).

import { askKey, key } from "./key.js";

const REQUEST_MS = 15_000; // the server answers or refuses within 2 s; the rest is a phone's network

/** A refusal by the server: `status`, a stable `code`, and a sentence for people as its message. */
export class Problem extends Error {
  constructor(status, { code, detail, title }) {
    super(detail || title || `The server answered ${status}.`);
    Object.assign(this, { status, code });
  }
}

const links = new Map(); // stream id -> its events_url, whose read token stands in for the key

async function request(method, path, { body, headers } = {}) {
  for (;;) {
    const secret = key();
    const response = await fetch(path, {
      method,
      body: body && JSON.stringify(body),
      headers: {
        ...(body && { "Content-Type": "application/json" }),
        ...(secret && { Authorization: `Bearer ${secret}` }),
        ...headers,
      },
      signal: AbortSignal.timeout(REQUEST_MS),
    });
    const said = response.status === 204 ? null : await response.json().catch(() => ({}));
    if (response.status === 401) await askKey(secret);
    else if (!response.ok) throw new Problem(response.status, said);
    else {
      if (said?.events_url?.includes("?token=")) links.set(said.id, said.events_url);
      return said;
    }
  }
}

const at = (id) => `/v1/streams/${encodeURIComponent(id)}`;

/** Calls of the API. Each raises Problem when refused, TypeError or TimeoutError when the network is away. */
export const api = {
  models: () => request("GET", "/v1/models"),
  create: (body, idempotencyKey) => request("POST", "/v1/streams", { body, headers: { "Idempotency-Key": idempotencyKey } }),
  record: (id) => request("GET", at(id)),
  cancel: (id) => request("POST", `${at(id)}/cancel`),
  erase: (id) => request("DELETE", at(id)),
  /** Whether `eventsPath` leads in: with a key, EventSource (which sends none) needs a link with a token. */
  canRead: (id) => !key() || links.has(id),
  /** Where the events are, with a new token where one is needed. */
  async freshPath(id) {
    if (key()) await request("POST", `${at(id)}/token`).catch(() => {});
    return this.eventsPath(id);
  },
  /** Where the events are, from behind the one with this id. */
  eventsPath(id, lastId) {
    const path = links.get(id) ?? `${at(id)}/events`;
    return lastId ? `${path}${path.includes("?") ? "&" : "?"}last_event_id=${encodeURIComponent(lastId)}` : path;
  },
};
