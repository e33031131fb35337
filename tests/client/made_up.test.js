import test from "node:test";

import * as client from "../../api/static/headrace.js";
import { cases } from "./made_up.js";

for (const [name, run] of cases) test(name, { timeout: 20_000 }, () => run(client));
