// Types made by openapi-typescript of the API's description; requests by openapi-fetch, which has no code of its own.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

type Job = components["schemas"]["Job"];
type Refusal = components["schemas"]["Error"];

const [baseUrl, token] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

function expect(what: string, found: unknown, wanted: unknown): void {
  if (JSON.stringify(found) !== JSON.stringify(wanted)) {
    throw new Error(`${what}: ${JSON.stringify(found)} in the place of ${JSON.stringify(wanted)}`);
  }
}

async function main(): Promise<void> {
  const body = { job_name: "typed", recipe: "language_model", config: { epochs: 3 } } as const;
  const submit = (key: string) =>
    client.POST("/v1/training/jobs", { body, params: { header: { "Idempotency-Key": key } } });
  const made = (await submit("from-TypeScript")).data!;
  expect("a new job", [made.status, made.total_epochs], ["queued", 3]);
  expect("the same job", (await submit("from-TypeScript")).data!.id, made.id);

  const path = { id: made.id };
  const paused = await client.POST("/v1/training/jobs/{id}/pause", { params: { path }, body: {} });
  expect("a pause", [paused.data!.answer, paused.data!.status], ["done", "paused"]);
  const read: Job = (await client.GET("/v1/training/jobs/{id}", { params: { path } })).data as Job;
  expect("its verbs", read.verbs, ["resume", "discard"]);

  const list = await client.GET("/v1/training/jobs", {
    params: { query: { where: ["config.epochs<4"], ordering: "-config.epochs" } },
  });
  expect("a list", list.data!.results.map((job) => job.id), [made.id]);

  const refused: Refusal = (await client.POST("/v1/training/jobs/{id}/cancel", { params: { path } })).error!;
  expect("a refusal", [refused.error.code, refused.error.status], ["transition_refused", "paused"]);
  const missing = (await client.GET("/v1/training/jobs/{id}", { params: { path: { id: 987654 } } })).error!;
  expect("a missing job", missing.error.code, "not_found");

  // @ts-expect-error: an unknown recipe is found before it is sent
  const wrong = () => client.POST("/v1/training/jobs", { body: { job_name: "x", recipe: 7 } });
  // @ts-expect-error: so is a status that there is none of
  const unknown: Job["status"] = "sleeping";
  console.log("whole", typeof wrong, unknown.length);
}

await main();
