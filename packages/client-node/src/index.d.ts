/** Scan login for a site's backend. Times are seconds, and instants are Unix times in seconds. */

/** Any error of this package. Its message names the problem, and contains no secret. */
export class ScanLoginError extends Error {
  /** The status of the HTTP response to send. */
  readonly status: number;
}

/** The token is malformed, forged, expired, or for another audience. */
export class InvalidToken extends ScanLoginError {}

/** The broker has not published the key that the token names. */
export class UnknownKey extends InvalidToken {}

/** The token has been used before. */
export class SpentToken extends InvalidToken {}

/** The request is not from the broker, too old, or malformed. */
export class InvalidWebhook extends ScanLoginError {}

/** The broker's keys cannot be fetched now. The token may be valid. */
export class BrokerUnavailable extends ScanLoginError {}

/** The claims of a valid token. */
export interface Claims {
  readonly iss: string;
  /** The user. */
  readonly sub: string;
  readonly aud: string | string[];
  readonly exp: number;
  readonly iat: number;
  /** The id of the token; accept each one once, see `SpentTokens`. */
  readonly jti: string;
  /** When the user confirmed. */
  readonly auth_time?: number;
  /** `["scan"]` or `["scan", "match"]`. */
  readonly amr?: string[];
  /** Of the user, if the broker gives it to the app. */
  readonly name?: string;
  /** The provider. */
  readonly idp?: string;
  readonly client_id?: string;
  readonly scope?: string;
  /** The sign-in session of OpenID Connect. */
  readonly sid?: string;
  readonly [name: string]: unknown;
}

export interface VerifierOptions {
  /** The public URL of the broker. */
  issuer: string;
  /** The id of your app at the broker. */
  audience: string;
  /** The accepted algorithms; by default `["ES256"]`. */
  algorithms?: readonly string[];
  /** Seconds that the clocks of broker and site may differ, at most 120; by default 30. */
  leeway?: number;
  /** The URL of the key set, if this server reaches the broker at another URL. */
  keysUrl?: string;
  /** Unix time in seconds. */
  clock?: () => number;
  /** Seconds, for the age of the keys. */
  monotonic?: () => number;
}

/**
 * Verifies access tokens. Keys are fetched every 300 seconds, and at most once in 30 seconds for
 * an unknown `kid`. While the broker does not answer, keys are used for up to 24 hours.
 */
export class Verifier {
  constructor(options: VerifierOptions);
  /**
   * Return the claims of a valid token. Rejects with InvalidToken, or with BrokerUnavailable if
   * the keys cannot be fetched.
   */
  verify(token: unknown): Promise<Claims>;
}

/**
 * Return `access_token` of a JSON body, as the widget's page sends it. Rejects with InvalidToken
 * for any other body.
 *
 * @param body such as the `IncomingMessage` of a request; at most 64 KB of it are read
 */
export function readToken(body: AsyncIterable<Uint8Array | string>): Promise<unknown>;

/** Stores a `jti` for a number of seconds, atomically. Returns whether it is new. */
export type Store = (jti: string, seconds: number) => boolean | Promise<boolean>;

/**
 * Accepts each token once. Without a `store` the tokens are in the memory of this process, which
 * is enough for a site with one process.
 */
export class SpentTokens {
  constructor(store?: Store, options?: { clock?: () => number });
  /** Mark a verified token as used. Rejects with SpentToken if it has been used before. */
  spend(claims: Pick<Claims, "jti" | "exp">): Promise<void>;
}

interface EventOf<Type extends string, Data> {
  /** The same in every repeat. */
  readonly webhookId: string;
  readonly type: Type;
  /** Of this attempt, in ISO 8601. */
  readonly timestamp: string;
  readonly data: Data;
}

interface TunnelData {
  app: string;
  tunnel_id: string;
  /** Counts the callbacks of the tunnel from 1. */
  seq: number;
  subject?: string;
  openid?: string;
  meta: Record<string, unknown>;
}

type Fields = Record<string, unknown>;

/** An entry of the broker's audit log. */
export interface AuditEntry {
  /** Its number; ignore a number that you have. */
  seq: number;
  kind: string;
  id: string;
  /** Unix time in seconds, as `began_at`. */
  at: number;
  app: string;
  state: string;
  began_at?: number;
  incarnation?: string;
  provider?: string;
  openid?: string;
  subject?: string;
  actor?: string;
  target?: string;
  ip?: string;
  phone_ip?: string;
  user_agent?: string;
  reason?: string;
  instance?: string;
  /** Of the hash chain. */
  hash?: string;
}

/** An event of the broker. Answer a type that you do not know with status 404. */
export type Event =
  | EventOf<
      "identity.find",
      { provider: string; provider_app_id: string; openid: string; unionid: string | null }
    >
  | EventOf<
      "login.judge",
      { app: string; login_id: string; browser: Fields; phone: Fields; identity: Fields }
    >
  | EventOf<"login.reported", { login_id: string; subject: string; app: string; at: number }>
  | EventOf<
      "file.offered",
      {
        app: string;
        openid: string;
        subject: string | null;
        size: number;
        media_type: string;
        purpose: string;
        sha256: string;
      }
    >
  | EventOf<"room.admit", { app: string; room: string; subject: string; openid?: string }>
  | EventOf<"tunnel.verify", { app: string; challenge: string }>
  | EventOf<"tunnel.open", TunnelData & { ip: string; user_agent: string; resumed: boolean }>
  | EventOf<"tunnel.message", TunnelData & { id?: string; data: unknown }>
  | EventOf<"tunnel.close", TunnelData & { code: number; reason: string; by: string }>
  | EventOf<"audit.entry", { entries: AuditEntry[] }>;

/**
 * Parses the requests of a broker.
 *
 * The broker repeats a request whose answer it did not get, with the same `webhook-id`, and an
 * attacker may send a copy for 5 minutes. Before you process an event, ask `answerTo`; after that,
 * `remember` your answer. Answers are in the memory of this process. A site with several processes
 * stores `webhookId` in its database, with what the event has changed.
 */
export class Webhook {
  /** @param secrets `whsec_…`; several while you replace one */
  constructor(secrets: string | readonly string[]);
  /**
   * Return the event of a request. Throws InvalidWebhook.
   *
   * @param body as received, because the signature is for these bytes
   */
  parse(
    headers: Headers | Record<string, string | string[] | undefined>,
    body: string | Uint8Array,
  ): Event;
  /** Return the answer to an earlier attempt of this event; undefined for a new event. */
  answerTo(event: Event): unknown;
  /** Store an answer. The oldest of many is dropped. */
  remember(event: Event, answer: unknown): void;
}
