import { describe, it } from "node:test";

import * as client from "../../api/static/headrace.js";
import { cases } from "./made_up.js";

describe("the client, at once", { concurrency: true }, () => {
  for (const [name, run] of cases) it(name, { timeout: 20_000 }, () => run(client));
});
