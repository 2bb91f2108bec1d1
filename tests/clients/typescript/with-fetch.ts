// A shop in TypeScript, by openapi-fetch and the types that openapi-typescript generates. No cast, no any.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import createClient from "openapi-fetch";

import type { components, paths } from "./schema";
import { KEY, READER, TAG, TERMINAL, URL, WAIT, flow } from "./settings";

type Schemas = components["schemas"];

const connected = (key: string) =>
  createClient<paths>({ baseUrl: URL, headers: { Authorization: `Bearer ${key}` } });
const client = connected(KEY);

const order = (sku: string, quantity?: number): Schemas["CheckoutStart"] => ({
  name: "checkout",
  id: `order-${randomUUID()}`,
  input: quantity === undefined ? { sku } : { sku, quantity },
  tags: { shop: TAG },
});

const isCheckout = (workflow: Schemas["Workflow"]): workflow is Schemas["CheckoutWorkflow"] =>
  workflow.name === "checkout";

async function start(sku: string): Promise<string> {
  const { data } = await client.POST("/workflows", { body: order(sku) });
  assert(data);
  return data.id;
}

type Answer =
  | Schemas["SetEvent"]
  | Schemas["PendingEvent"]
  | Schemas["NeverSetProblem"]
  | "no such workflow"
  | "nothing newer";

/** Each of the answers has a type of its own. */
async function look(id: string, key: string, timeout: number = WAIT, etag?: string): Promise<Answer> {
  const header = etag === undefined ? {} : { "If-None-Match": etag };
  const { data, error, response } = await client.GET("/workflows/{id}/events/{key}", {
    params: { path: { id, key }, query: { timeout }, header },
  });
  if (response.status === 304) return "nothing newer";
  if (data) return data;
  assert(error);
  if ("workflow_status" in error) return error;
  if (response.status === 404) return "no such workflow";
  throw new Error(error.detail);
}

async function paymentUrl(id: string): Promise<string> {
  for (;;) {
    const answer = await look(id, "payment_url");
    if (typeof answer === "string" || "code" in answer) throw new Error("it will never be there");
    if (answer.state === "set") {
      assert(typeof answer.value === "string");
      return answer.value;
    }
  }
}

async function* progress(id: string): AsyncGenerator<number> {
  let after = 0;
  for (;;) {
    const query = { after, key: ["progress"], timeout: WAIT };
    const { data } = await client.GET("/workflows/{id}/history", { params: { path: { id }, query } });
    assert(data);
    for (const event of data.events) {
      assert(typeof event.value === "number");
      yield event.value;
    }
    after = data.position;
    if (data.events.length === 0 && TERMINAL.has(data.workflow_status)) return;
  }
}

async function* pages(): AsyncGenerator<Schemas["ListedWorkflow"]> {
  let cursor: string | null | undefined;
  do {
    const query = { tag: [`shop:${TAG}`], limit: 1, ...(cursor ? { cursor } : {}) };
    const { data } = await client.GET("/workflows", { params: { query } });
    assert(data);
    yield* data.workflows;
    cursor = data.next_cursor;
  } while (cursor !== null);
}

async function checkOut(): Promise<void> {
  const body = order("A1", 2);
  const query = { wait_for: ["payment_url"], timeout: WAIT };
  const { data: started } = await client.POST("/workflows", { body, params: { query } });
  const first = started?.events?.["payment_url"];
  assert(started && first?.state === "set");
  const path = { id: started.id };
  assert.equal(await paymentUrl(started.id), first.value);
  assert.equal((await client.POST("/workflows", { body })).response.status, 200);

  const paid = { topic: "payment", payload: { status: "paid" } };
  const sent = await client.POST("/workflows/{id}/messages", { params: { path }, body: paid });
  assert.equal(sent.data?.topic, "payment");
  const percents: number[] = [];
  for await (const percent of progress(started.id)) percents.push(percent);
  assert.deepEqual(percents, [0, 25, 50, 75, 100]);

  const result = await client.GET("/workflows/{id}/result", { params: { path, query: { timeout: WAIT } } });
  assert(result.data && isCheckout(result.data));
  const receipt: Schemas["CheckoutOutput"] | null = result.data.output;
  assert.equal(receipt?.status, "shipped");
}

async function tellAnswersApart(): Promise<void> {
  const [open, soldOut] = [await start("A1"), await start("C3")];
  const set = await look(open, "payment_url");
  assert(typeof set !== "string" && "state" in set && set.state === "set");
  const pending = await look(open, "progress", 0);
  assert(typeof pending !== "string" && "state" in pending && pending.state === "pending");
  const never = await look(soldOut, "payment_url");
  assert(typeof never !== "string" && "code" in never);
  assert.equal(never.workflow_status, "SUCCEEDED");
  assert.equal(await look("nowhere", "payment_url"), "no such workflow");
  const path = { id: open, key: "payment_url" };
  const { response } = await client.GET("/workflows/{id}/events/{key}", { params: { path } });
  assert.equal(await look(open, "payment_url", 0, response.headers.get("ETag") ?? ""), "nothing newer");
}

async function turnPages(): Promise<void> {
  const ids = [await start("C3"), await start("C3")];
  const found: string[] = [];
  for await (const workflow of pages()) found.push(workflow.id);
  assert(ids.every((id) => found.includes(id)));
  assert.equal(new Set(found).size, found.length);
}

async function meetProblems(): Promise<void> {
  const path = { id: await start("C3") };
  await client.GET("/workflows/{id}/result", { params: { path, query: { timeout: WAIT } } });
  const { error: finished } = await client.POST("/workflows/{id}/cancel", { params: { path } });
  assert(finished && "workflow_status" in finished);
  assert.deepEqual([finished.code, finished.workflow_status], ["workflow-finished", "SUCCEEDED"]);
  const { error: invalid } = await client.POST("/workflows", { body: order("A1", 0) });
  assert(invalid && "errors" in invalid);
  assert.deepEqual(invalid.errors.map((place) => place.pointer), ["/input/quantity"]);
  const unknown = await client.GET("/workflows/{id}", { params: { path: { id: "nowhere" } } });
  assert.equal(unknown.error?.code, "workflow-not-found");
  const forbidden = await connected(READER).POST("/workflows", { body: order("A1") });
  assert.equal(forbidden.error?.code, "insufficient-scope");
  assert.equal((await connected("mp_of_nobody").GET("/workflows")).error?.code, "unauthenticated");
  assert.equal((await client.GET("/healthz")).data?.status, "ok");
  assert.equal((await client.DELETE("/workflows/{id}", { params: { path } })).response.status, 204);
}

async function bearWhatIsNew(): Promise<void> {
  const path = { id: await start("C3") };
  const { data: ended } = await client.GET("/workflows/{id}/result", { params: { path, query: { timeout: WAIT } } });
  assert.equal(ended?.status, "PAUSED");
  assert(ended && isCheckout(ended));
  assert.equal(ended.output?.status, "out_of_stock");
  for await (const workflow of pages()) assert.equal(workflow.status, "PAUSED");
  const { data: board } = await client.GET("/workflows/{id}/events", { params: { path } });
  assert(board?.events.every((event) => event.state === "set" && event.workflow_status === "PAUSED"));
  const { data: steps } = await client.GET("/workflows/{id}/steps", { params: { path } });
  assert(steps?.steps.every((step) => step.kind === "quantum"));
  const unknown = await client.GET("/workflows/{id}", { params: { path: { id: "nowhere" } } });
  assert.equal(unknown.error?.code, "of-next-year");
}

void flow({ today: [checkOut, tellAnswersApart, turnPages, meetProblems], tomorrow: [bearWhatIsNew] });
