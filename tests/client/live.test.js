// Started by tests/e2e/test_client.py, which keeps the processes and says where they are.

import { describe, it } from "node:test";

import * as client from "../../api/static/headrace.js";
import { alone, cases } from "./live.js";

const { CONTROL_URL, ...where } = JSON.parse(process.env.CLIENT_TEST ?? "{}");

async function control(command, argument = null) {
  const response = await fetch(CONTROL_URL, { method: "POST", body: JSON.stringify([command, argument]) });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

const run = ([name, run]) => it(name, { timeout: 60_000, skip: !CONTROL_URL }, () => run({ client, control, run: "node", ...where }));

describe("alone", () => alone.forEach(run));
describe("at once", { concurrency: true }, () => cases.forEach(run));
