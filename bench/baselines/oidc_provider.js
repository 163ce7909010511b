// A certified OpenID Provider on Node, with its records in Redis.
//
// REDIS_URL: the Redis of all servers. JWKS: the keys that sign ID tokens. Each name is a person, and a
// sign-in grants the scopes at once, because the broker's consent is the confirm on the phone.

import { createServer } from "node:http";
import Provider from "oidc-provider";
import { createClient } from "redis";

const { REDIS_URL, JWKS, SECRET, REDIRECT_URI } = process.env;
const redis = createClient({ url: REDIS_URL });
await redis.connect();

// Records that end together with a grant are listed under the grant.
const GRANTED = new Set(["AccessToken", "AuthorizationCode", "RefreshToken", "DeviceCode"]);

class RedisAdapter {
  constructor(name) {
    this.name = name;
  }

  key(id) {
    return `oidc:${this.name}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    const commands = redis.multi().set(this.key(id), JSON.stringify(payload), { EX: expiresIn || 3600 });
    if (payload.uid) commands.set(`oidc:uid:${payload.uid}`, id, { EX: expiresIn || 3600 });
    if (GRANTED.has(this.name) && payload.grantId) {
      commands.sAdd(`oidc:grant:${payload.grantId}`, this.key(id)).expire(`oidc:grant:${payload.grantId}`, 86_400);
    }
    await commands.exec();
  }

  async find(id) {
    const stored = await redis.get(this.key(id));
    return stored ? JSON.parse(stored) : undefined;
  }

  async findByUid(uid) {
    const id = await redis.get(`oidc:uid:${uid}`);
    return id ? this.find(id) : undefined;
  }

  async consume(id) {
    const stored = await this.find(id);
    stored.consumed = Math.floor(Date.now() / 1000);
    await redis.set(this.key(id), JSON.stringify(stored), { KEEPTTL: true });
  }

  async destroy(id) {
    await redis.del(this.key(id));
  }

  async revokeByGrantId(grantId) {
    const keys = await redis.sMembers(`oidc:grant:${grantId}`);
    await redis.del([...keys, `oidc:grant:${grantId}`]);
  }
}

async function loadExistingGrant({ oidc }) {
  const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
  grant.addOIDCScope("openid profile offline_access");
  await grant.save();
  return grant;
}

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider("http://127.0.0.1", {
    adapter: RedisAdapter,
    claims: { openid: ["sub"], profile: ["name", "preferred_username"] },
    clients: [{ client_id: "bench", client_secret: SECRET, redirect_uris: [REDIRECT_URI], grant_types: ["authorization_code", "refresh_token"] }],
    cookies: { keys: ["a key of the benchmark"] },
    conformIdTokenClaims: false, // the claims are in the ID token, as with the broker
    findAccount: (context, id) => ({ accountId: id, claims: () => ({ sub: id, name: id, preferred_username: id }) }),
    issueRefreshToken: () => true,
    jwks: JSON.parse(JWKS),
    loadExistingGrant,
    ttl: { AuthorizationCode: 60 },
  });
  server.on("request", provider.callback());
  console.log(`ready on ${url}`);
});
