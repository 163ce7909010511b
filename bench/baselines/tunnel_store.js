// Tunnels in Redis, with the broker's scripts, keys and records (tunnel_keys.py describes them).

import { hash } from "./secrets.js";

const HOME = "scanlogin:{A}:";
const CHANNEL = "scanlogin:instance:";
const RECORD_TTL_MS = 3_600_000;
const REPLY_TTL_MS = 120_000;
const PUSH_ID_TTL_MS = 120_000;
const KEEP_MS = 120_000;

export class TunnelStore {
  // instance: the name of this process, on whose channel it receives news.
  constructor(redis, run, instance) {
    this.redis = redis;
    this.run = run;
    this.instance = instance;
  }

  // onNews(id): called for each notice.
  async subscribe(onNews) {
    const subscriber = this.redis.duplicate();
    await subscriber.connect();
    await subscriber.subscribe(CHANNEL + this.instance, (notice) => onNews(JSON.parse(notice).id));
  }

  putTicket(ticket, tunnel, ttlMs) {
    return this.redis.set(ticketKey(ticket), JSON.stringify(tunnel), { PX: ttlMs });
  }

  async takeTicket(ticket) {
    const stored = await this.redis.getDel(ticketKey(ticket));
    return stored === null ? null : JSON.parse(stored);
  }

  // Store a new open tunnel. Returns the number of its first callback.
  async open(tunnel) {
    const names = [indexKey("app", tunnel.app), indexKey("instance", tunnel.instance)];
    const [seq] = await this.run("change", [key("tunnel", tunnel.id)], [
      ...this.shared(), tunnel.id, 0, 1, names.join(" "), 0, notice(tunnel.id),
      tunnel.attachment, tunnel.instance, 1, tunnel.version,
      "tunnel", JSON.stringify(tunnel), "seen", tunnel.seen_at, "owner", tunnel.app, "api", tunnel.api,
    ]);
    return seq;
  }

  // Take the number of the next callback. Returns it and the record, or null.
  async number(id, attachment) {
    const values = [id, attachment, "", Date.now(), REPLY_TTL_MS];
    const found = await this.run("number", [key("tunnel", id)], values);
    return found === null ? null : { seq: found[0], tunnel: JSON.parse(found[2]) };
  }

  // Store a message, and notify the instance of its tunnel. Returns the offset, or null.
  async append(id, data) {
    const [found] = await this.run("append", [key("tunnel", id)], [
      ...this.shared(), "default", "native", PUSH_ID_TTL_MS, id, data, "", KEEP_MS, notice(id),
    ]);
    return found === null ? null : found[0];
  }

  // Read the messages of several tunnels. Returns a list of [offset, data] for each.
  async read(tunnels) {
    const positions = tunnels.flatMap(({ id, position }) => [id, position]);
    const values = [...this.shared(), this.instance, ...positions];
    const found = await this.run("read", [key("tunnel", tunnels[0].id)], values);
    return found.map((one) => {
      if (one === null) return [];
      const [, , , , offsets, messages] = one;
      return offsets.map((offset, index) => [offset, messages[index]]);
    });
  }

  shared() {
    return [HOME, CHANNEL, Date.now(), RECORD_TTL_MS];
  }
}

function key(kind, id) {
  return `scanlogin:{${id[0]}}:${kind}:${id}`;
}

function ticketKey(ticket) {
  return `scanlogin:{${ticket[0]}}:ticket:${hash(ticket)}`;
}

function indexKey(kind, name) {
  return `${HOME}tunnels:${kind}:${hash(name).slice(0, 32)}`;
}

function notice(id) {
  return `{"event":"tunnel-news","id":"${id}"}`;
}
