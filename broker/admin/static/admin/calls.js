/** Calls of the broker. The token is in memory only. */

import { t } from "./texts.js";

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
export const broker = meta("broker"), client = meta("client"), adminURL = meta("admin");
let token = "", isOpen = false, ended = () => {};

class Failure extends Error {
  constructor(status, answer) {
    super(answer.error_description ? t("request_failed", { reason: answer.error_description }) : t("unreachable"));
    this.status = status;
    this.word = answer.error ?? "";
  }
}

export async function request(method, path, body, options = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
      cache: "no-store",
      ...options,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, {});
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && isOpen) ended();
  throw new Failure(response.status, answer);
}

export async function api(method, path, body) {
  const response = await request(method, path, body);
  const text = await response.text();
  return text ? JSON.parse(text) : {};
}

export const query = (fields) => new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== "" && value !== undefined)).toString();

export const isSignedIn = () => isOpen;

/** Use a token for all calls. Rejects with the text `refusal` if the broker refuses it. */
export async function signIn(value, refusal) {
  token = value;
  try {
    await request("GET", "instances");
  } catch (error) {
    token = "";
    throw error.status === 401 ? new Error(refusal) : error;
  }
  isOpen = true;
}

export function dropToken() {
  token = "";
  isOpen = false;
}

/** Call `handler` when the broker no longer accepts the token. */
export function onEnd(handler) {
  ended = handler;
}
