// Started by tests/e2e/test_client.py, which keeps the processes and says where they are.

import test from "node:test";

import * as client from "../../api/static/headrace.js";
import { cases } from "./live.js";

const { CONTROL_URL, ...where } = JSON.parse(process.env.CLIENT_TEST ?? "{}");

async function control(command, argument = null) {
  const response = await fetch(CONTROL_URL, { method: "POST", body: JSON.stringify([command, argument]) });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

for (const [name, run] of cases) test(name, { timeout: 60_000, skip: !CONTROL_URL }, () => run({ client, control, run: "node", ...where }));
