// (f) @durable-streams/server as its README starts it: in memory, which is its default and its fastest form (with files
// it calls fsync for each append). Used here only for reading.
import { DurableStreamTestServer } from "@durable-streams/server";

const server = new DurableStreamTestServer({ port: 0, host: "127.0.0.1" });
const url = await server.start();
console.log(`port ${new URL(url).port}`);
