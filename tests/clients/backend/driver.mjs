// Runs the installed package for Node, with the commands of driver.py.
import { createInterface } from "node:readline";
import * as library from "scan-login-client";

const made = {};
let now = 0;

async function outcome(act) {
  try {
    return { done: (await act()) ?? null };
  } catch (error) {
    if (!(error instanceof library.ScanLoginError)) throw error;
    return { error: error.name, status: error.status, text: error.message };
  }
}

function make({ make: kind, ...options }) {
  const clocks = { clock: () => now, monotonic: () => now };
  if (kind === "Webhook") {
    made.webhook = new library.Webhook(options.secrets);
  } else {
    const { keys_url: keysUrl, ...others } = options;
    made.verifier = new library.Verifier({ ...others, ...(keysUrl && { keysUrl }), ...clocks });
    made.spent = new library.SpentTokens(undefined, { clock: clocks.clock });
  }
  return { done: null };
}

async function spend(tokens) {
  const answers = [];
  for (const token of tokens) {
    answers.push(
      await outcome(async () => made.spent.spend(await made.verifier.verify(token))),
    );
  }
  return answers;
}

async function parse({ headers, body }) {
  const found = await outcome(() => made.webhook.parse(headers, body));
  if (found.error) return found;
  const repeat = made.webhook.answerTo(found.done) !== undefined;
  made.webhook.remember(found.done, { at: body.length });
  const { webhookId, type, timestamp, data } = found.done;
  return { done: { webhook_id: webhookId, type, timestamp, ...data }, repeat };
}

const acts = {
  verify: ({ tokens }) => Promise.all(tokens.map((one) => outcome(() => made.verifier.verify(one)))),
  spend: ({ tokens }) => spend(tokens),
  parse,
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  now = command.now ?? now;
  const answer = command.make ? make(command) : await acts[command.do](command);
  console.log(JSON.stringify(answer));
}
