// For the client's tests: servers made of nothing, by a `fetch` that answers from a list.

const encoder = new TextEncoder();

/** An SSE body of events `[id, type, data]`. */
export const sse = (...events) =>
  events.map(([id, type, data]) => `${id ? `id: ${id}\n` : ""}${type === "message" ? "" : `event: ${type}\n`}data: ${JSON.stringify(data)}\n\n`).join("");

export const DONE = { finish_reason: "stop", usage: { output_tokens: 3 }, cost: null, timings: { queued_ms: 1, first_token_ms: 2, total_ms: 3 } };

/**
 * A `fetch` whose nth answer is the nth of `answers`: a string (an SSE body that ends there), `[status, document,
 * headers]`, an Error, or "hang" behind a body. Each call is kept in `fetch.calls`.
 */
export function scripted(...answers) {
  const calls = [];
  const fetch = async (url, { method, headers, body, signal }) => {
    signal?.throwIfAborted();
    const answer = answers[calls.length];
    calls.push({ method, url, headers, body: body && JSON.parse(body), at: performance.now() });
    if (answer === undefined) throw new Error(`call ${calls.length} was not expected: ${method} ${url}`);
    if (answer instanceof Error) throw answer;
    if (Array.isArray(answer)) {
      const [status, document, more] = answer;
      return new Response(document === null ? null : JSON.stringify(document), { status, headers: more });
    }
    const { text, hangs = false } = typeof answer === "string" ? { text: answer } : answer;
    const body_ = new ReadableStream({
      start(controller) {
        controller.enqueue(encoder.encode(text));
        signal?.addEventListener("abort", () => controller.error(signal.reason));
        if (!hangs) controller.close();
      },
    });
    return new Response(body_, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
  };
  return Object.assign(fetch, { calls });
}

export const CREATED = [202, { id: "s1", status: "queued", model: "m/m", events_url: "/v1/streams/s1/events", url: "/v1/streams/s1" }];

/** Fails unless both are the same as JSON. */
export function same(found, wanted, what = "value") {
  const [a, b] = [found, wanted].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${what}: ${a}, and not ${b}`);
}

/** Fails unless it is true. */
export function check(condition, what) {
  if (!condition) throw new Error(what);
}

/** Out: what the promise is rejected with. Fails if it is not. */
export async function refused(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`nothing was refused: ${JSON.stringify(value)}`);
}
