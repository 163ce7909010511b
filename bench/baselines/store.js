// Logins and sessions in one Redis for all servers, in a format like the broker's.
//
//     login:<id>      "<version> <the login as JSON>"
//     scene:<scene>   the login's id
//     session:<id>    the session as JSON

import { readFileSync } from "node:fs";
import { Refused } from "./errors.js";

const LIFETIME_MS = 900_000;

export class Store {
  static async open(client) {
    const load = (name) => client.scriptLoad(readFileSync(new URL(name, import.meta.url), "utf8"));
    const [add, byScene, swap] = await Promise.all(["add.lua", "by_scene.lua", "swap.lua"].map(load));
    return new Store(client, { add, byScene, swap });
  }

  constructor(client, scripts) {
    this.client = client;
    this.scripts = scripts;
  }

  add(login) {
    return this.client.evalSha(this.scripts.add, {
      keys: [`login:${login.id}`, `scene:${login.scene}`],
      arguments: [encode(0, login), login.id, String(LIFETIME_MS)],
    });
  }

  async get(id) {
    return decode(await this.client.get(`login:${id}`));
  }

  async byScene(scene) {
    return decode(
      await this.client.evalSha(this.scripts.byScene, {
        keys: [`scene:${scene}`],
        arguments: ["login:"],
      }),
    );
  }

  // Store a changed login and return its next version. Throws Refused if the stored version differs.
  async swap({ version, login }, changes) {
    const next = { version: version + 1, login: { ...login, ...changes } };
    const stored = await this.client.evalSha(this.scripts.swap, {
      keys: [`login:${login.id}`],
      arguments: [`${version} `, encode(next.version, next.login), String(LIFETIME_MS)],
    });
    if (!stored) throw new Refused(409, "invalid_state");
    return next;
  }

  putSession(id, session) {
    return this.client.set(`session:${id}`, JSON.stringify(session), { PX: LIFETIME_MS });
  }

  async session(id) {
    const stored = await this.client.get(`session:${id}`);
    if (stored === null) throw new Refused(401, "invalid_session");
    return JSON.parse(stored);
  }
}

function encode(version, login) {
  return `${version} ${JSON.stringify(login)}`;
}

function decode(stored) {
  if (stored === null) throw new Refused(400, "invalid_grant");
  const space = stored.indexOf(" ");
  return { version: Number(stored.slice(0, space)), login: JSON.parse(stored.slice(space + 1)) };
}
