// A mini program with an unmodified Wafer SDK, controlled by lines of JSON. Argument: the package.
import { createRequire } from "node:module";
import readline from "node:readline";
import { cut, forge, state } from "./wx.mjs";

const sdk = createRequire(import.meta.url)(process.argv[2]);
const events = [];
let tunnel;

// Each act resolves once the SDK has called success or fail.
const called = (call, options) =>
  new Promise((success, fail) => call({ ...options, success, fail }));

const acts = {
  login: ({ url }) => {
    sdk.setLoginUrl(url);
    return called(sdk.login, { loginUrl: url });
  },
  request: async ({ url, login }) => (await called(sdk.request, { url, login })).data,
  forge: ({ session }) => forge(session),
  open: ({ url, increase }) => {
    if (increase) sdk.Tunnel.RECONNECT_TIME_INCREASE = increase;
    tunnel = new sdk.Tunnel(url);
    tunnel.on("*", (type, content) => events.push([type, content ?? null]));
    tunnel.open();
  },
  emit: ({ type, content }) => tunnel.emit(type, content),
  close: () => tunnel.close(),
  cut,
  state: () => ({ events, sockets: state.sockets, requests: state.requests, status: tunnel?.status }),
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { do: act, ...fields } = JSON.parse(line);
  try {
    const answer = (await acts[act](fields)) ?? null;
    console.log(JSON.stringify({ answer }));
  } catch (error) {
    console.log(JSON.stringify({ error: { type: error.type, message: error.message } }));
  }
}
process.exit(0);
