// What both programs are told, and how they are run.

import { randomUUID } from "node:crypto";

function given(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

export const URL = given("MILEPOST_URL");
export const KEY = given("MILEPOST_KEY");
export const READER = given("MILEPOST_READER");
export const WAIT = 25;
export const TAG = randomUUID();
export const TERMINAL = new Set(["SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT", "DEAD"]);

export async function flow(flows: Record<string, (() => Promise<void>)[]>): Promise<void> {
  const chosen = flows[process.argv[2] ?? ""];
  if (chosen === undefined) throw new Error(`one of ${Object.keys(flows).join(", ")}`);
  for (const part of chosen) await part();
}
