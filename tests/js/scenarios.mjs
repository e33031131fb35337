// Runs scenarios as they come. Each line of stdin is a scenario and what it needs, {n, scenario, given} as JSON; what
// came of it is a line of stdout, {n, came} or {n, failed}. Scenarios run at the same time. Ends with stdin.
import { createInterface } from "node:readline";

export async function serve(scenarios) {
  async function run({ n, scenario, given }) {
    const told = await scenarios[scenario](given).then((came) => ({ came }), (error) => ({ failed: error.stack }));
    process.stdout.write(JSON.stringify({ n, ...told }) + "\n");
  }

  for await (const line of createInterface({ input: process.stdin })) run(JSON.parse(line));
  process.exit(0);
}
