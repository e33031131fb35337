// (e) Vercel's resumable-stream with Node's own HTTP server: the producer runs in the process that got the request,
// keeps its chunks in memory, and publishes them through Redis to the clients that resume.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createResumableStreamContext } from "resumable-stream";

const provider = process.env.PROVIDER_URL;
const context = createResumableStreamContext({ waitUntil: () => {} }); // its clients connect to REDIS_URL
const SSE = { "content-type": "text/event-stream", "cache-control": "no-cache" };

/** The provider's answer as SSE text, a piece for each token. */
function answer(prompt) {
  return new ReadableStream({
    async start(controller) {
      const response = await fetch(`${provider}/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model: "bench", messages: [{ role: "user", content: prompt }], stream: true }),
      });
      let rest = "";
      for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + text).split("\n");
        rest = lines.pop();
        for (const line of lines) {
          if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
          const content = JSON.parse(line.slice(6)).choices[0]?.delta?.content;
          if (content) controller.enqueue(`data: ${JSON.stringify({ text: content })}\n\n`);
        }
      }
      controller.enqueue("data: [DONE]\n\n");
      controller.close();
    },
  });
}

async function send(response, stream, headers = {}) {
  if (!stream) return response.writeHead(422).end("Stream is already done");
  response.writeHead(200, { ...SSE, ...headers });
  response.flushHeaders();
  for await (const chunk of stream) {
    if (response.destroyed) return;
    response.write(chunk);
  }
  response.end();
}

const server = createServer(async (request, response) => {
  try {
    if (request.method === "POST") {
      let body = "";
      for await (const piece of request) body += piece;
      const id = randomUUID();
      const stream = await context.createNewResumableStream(id, () => answer(JSON.parse(body).prompt));
      await send(response, stream, { "x-stream-id": id });
    } else {
      const url = new URL(request.url, "http://localhost");
      const skip = url.searchParams.get("resumeAt");
      await send(response, await context.resumeExistingStream(url.pathname.slice(1), skip ? Number(skip) : undefined));
    }
  } catch (error) {
    if (!response.headersSent) response.writeHead(500);
    response.end(String(error));
  }
});
server.listen({ port: 0, host: "127.0.0.1", backlog: 2048 }, () => console.log(`port ${server.address().port}`));
