// A shop in TypeScript, by the client that @hey-api/openapi-ts generates. No cast, no any.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { createClient } from "./hey/client";
import {
  cancelWorkflow,
  deleteWorkflow,
  getEvent,
  getHealth,
  getHistory,
  getResult,
  getWorkflow,
  listEvents,
  listSteps,
  listWorkflows,
  sendMessage,
  startWorkflow,
  streamEvents,
} from "./hey/sdk.gen";
import type {
  CheckoutStart,
  CheckoutWorkflow,
  GetEventErrors,
  ListedWorkflow,
  NeverSetProblem,
  PendingEvent,
  SetEvent,
  Workflow,
} from "./hey/types.gen";
import { KEY, READER, TAG, TERMINAL, URL, WAIT, flow } from "./settings";

const connected = (key: string) => createClient({ baseUrl: URL, auth: key });
const client = connected(KEY);

const order = (sku: string, quantity = 1): CheckoutStart => ({
  name: "checkout",
  id: `order-${randomUUID()}`,
  input: { sku, quantity },
  tags: { shop: TAG },
});

const isCheckout = (workflow: Workflow): workflow is CheckoutWorkflow => workflow.name === "checkout";

async function start(sku: string): Promise<string> {
  const { data } = await startWorkflow({ client, body: order(sku) });
  assert(data);
  return data.id;
}

type Answer = SetEvent | PendingEvent | NeverSetProblem | "no such workflow" | "nothing newer";

/** Each of the answers has a type of its own. */
async function look(id: string, key: string, timeout: number = WAIT, etag?: string): Promise<Answer> {
  const headers = etag === undefined ? {} : { "If-None-Match": etag };
  const { data, error, response } = await getEvent({ client, path: { id, key }, query: { timeout }, headers });
  if (response?.status === 304) return "nothing newer";
  if (error === undefined) {
    assert(data);
    return data;
  }
  return refused(error, response?.status);
}

function refused(problem: GetEventErrors[keyof GetEventErrors], status: number | undefined): Answer {
  if ("workflow_status" in problem) return problem;
  if (status === 404) return "no such workflow";
  throw new Error(problem.detail);
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
    const { data } = await getHistory({ client, path: { id }, query: { after, key: ["progress"], timeout: WAIT } });
    assert(data);
    for (const event of data.events) {
      assert(typeof event.value === "number");
      yield event.value;
    }
    after = data.position;
    if (data.events.length === 0 && TERMINAL.has(data.workflow_status)) return;
  }
}

async function* pages(): AsyncGenerator<ListedWorkflow> {
  let cursor: string | null | undefined;
  do {
    const query = { tag: [`shop:${TAG}`], limit: 1, ...(cursor ? { cursor } : {}) };
    const { data } = await listWorkflows({ client, query });
    assert(data);
    yield* data.workflows;
    cursor = data.next_cursor;
  } while (cursor !== null);
}

async function checkOut(): Promise<void> {
  const body = order("A1", 2);
  const started = await startWorkflow({ client, body, query: { wait_for: ["payment_url"], timeout: WAIT } });
  assert(started.data);
  const { id } = started.data;
  const first = started.data.events?.["payment_url"];
  assert(first?.state === "set");
  const setAt: string = first.set_at;
  assert(Date.parse(setAt) > 0);
  assert.equal(await paymentUrl(id), first.value);
  assert.equal((await startWorkflow({ client, body })).response?.status, 200);

  const sent = await sendMessage({ client, path: { id }, body: { topic: "payment", payload: { status: "paid" } } });
  assert.equal(sent.data?.topic, "payment");
  const percents: number[] = [];
  for await (const percent of progress(id)) percents.push(percent);
  assert.deepEqual(percents, [0, 25, 50, 75, 100]);

  const { data: ended } = await getResult({ client, path: { id }, query: { timeout: WAIT } });
  assert(ended && isCheckout(ended));
  assert.equal(ended.output?.status, "shipped");
  const tracking: string | null | undefined = ended.output?.tracking;
  assert(tracking);

  const keys: (string | undefined)[] = [];
  const { stream } = await streamEvents({ client, path: { id }, onSseEvent: (event) => keys.push(event.event) });
  for await (const _ of stream);
  assert.equal(keys.at(-1), "$end");
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
  const { response } = await getEvent({ client, path: { id: open, key: "payment_url" } });
  assert.equal(await look(open, "payment_url", 0, response?.headers.get("ETag") ?? ""), "nothing newer");
}

async function turnPages(): Promise<void> {
  const ids = [await start("C3"), await start("C3")];
  const found: string[] = [];
  for await (const workflow of pages()) found.push(workflow.id);
  assert(ids.every((id) => found.includes(id)));
  assert.equal(new Set(found).size, found.length);
}

async function meetProblems(): Promise<void> {
  const id = await start("C3");
  await getResult({ client, path: { id }, query: { timeout: WAIT } });
  const finished = (await cancelWorkflow({ client, path: { id } })).error;
  assert(finished && "workflow_status" in finished);
  assert.deepEqual([finished.code, finished.workflow_status], ["workflow-finished", "SUCCEEDED"]);
  const invalid = (await startWorkflow({ client, body: order("A1", 0) })).error;
  assert(invalid && "errors" in invalid);
  assert.deepEqual(invalid.errors.map((place) => place.pointer), ["/input/quantity"]);
  assert.equal((await getWorkflow({ client, path: { id: "nowhere" } })).error?.code, "workflow-not-found");
  const forbidden = await startWorkflow({ client: connected(READER), body: order("A1") });
  assert.equal(forbidden.error?.code, "insufficient-scope");
  assert.equal((await listWorkflows({ client: connected("mp_of_nobody") })).error?.code, "unauthenticated");
  assert.equal((await getHealth({ client })).data?.status, "ok");
  assert.equal((await deleteWorkflow({ client, path: { id } })).response?.status, 204);
}

async function bearWhatIsNew(): Promise<void> {
  const id = await start("C3");
  const { data: ended } = await getResult({ client, path: { id }, query: { timeout: WAIT } });
  assert.equal(ended?.status, "PAUSED");
  assert(ended && isCheckout(ended));
  assert.equal(ended.output?.status, "out_of_stock");
  for await (const workflow of pages()) assert.equal(workflow.status, "PAUSED");
  const { data: board } = await listEvents({ client, path: { id } });
  assert(board?.events.every((event) => event.state === "set" && event.workflow_status === "PAUSED"));
  const { data: steps } = await listSteps({ client, path: { id } });
  assert(steps?.steps.every((step) => step.kind === "quantum"));
  assert.equal((await getWorkflow({ client, path: { id: "nowhere" } })).error?.code, "of-next-year");
  const never = await look(id, "payment_url");
  assert(typeof never !== "string" && "code" in never);
  assert.equal(never.workflow_status, "PAUSED");
}

void flow({ today: [checkOut, tellAnswersApart, turnPages, meetProblems], tomorrow: [bearWhatIsNew] });
