// (f) @durable-streams/server, storing in files as a durable log would; here for reading only.
import { DurableStreamTestServer } from "@durable-streams/server";

const server = new DurableStreamTestServer({ port: 0, host: "127.0.0.1", dataDir: process.env.DATA_DIR });
await server.start();
console.log(`port ${new URL(server.baseUrl).port}`);
