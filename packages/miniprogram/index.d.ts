/// <reference types="miniprogram-api-typings" />

/** The session of a phone at the broker. */
export interface Session {
  id: string;
  skey: string;
}

export interface App {
  id: string;
  name: string;
  scopes: string[];
}

/** The browser that shows a code. Show all of it to the person. */
export interface Browser {
  ip: string;
  user_agent: string;
  /** Seconds since the code appeared. */
  since: number;
  origin?: string;
  /** Whether the person has used this browser before. */
  known?: boolean;
}

export type Match = { kind: "number"; choices: string[] } | { kind: "code" };

export interface ScannedLogin {
  login_id: string;
  state: string;
  /** Seconds. */
  expires_in: number;
  app: App;
  browser: Browser;
  match?: Match;
}

export interface Confirmation {
  login_id: string;
  state: "confirmed" | "scanned";
  /** The digits that the person types in the browser, for a match by code. */
  match?: string;
  expires_in?: number;
}

export interface SignIn {
  sid: string;
  apps: string[];
  ip: string;
  user_agent: string;
  /** Unix time in seconds, as `used_at`. */
  began_at: number;
  used_at: number;
  offline: boolean;
}

/** A failed act. error: a word of the broker's protocol, or `unreachable`. message: for developers. */
export declare class ScanLoginError extends Error {
  error: string;
  /** Seconds until the next attempt. */
  retry_after?: number;
  register_url?: string;
}

/** Sends acts to the broker. */
export interface Wire {
  send(act: string, payload: object, session: Session): Promise<unknown>;
  close(): void;
}

export interface ScanLoginOptions {
  /** The URL of the broker. A slash at the end is removed. */
  broker: string;
  /** Default: `default`. */
  app?: string;
  /** A `js_code` in place of that of `wx.login`, such as `pretend:alice`. */
  proof?: string | null;
  /** Default: HTTP. `overSocket` of `@scan-login/miniprogram/socket` for Socket.IO. */
  wire?: (broker: string) => Wire;
}

export declare class ScanLogin {
  constructor(options: ScanLoginOptions);
  readonly broker: string;
  /** how: the launch scene, from `howScanned`. */
  scan(scene: string, how?: number): Promise<ScannedLogin>;
  /** match: the number that the person chose. */
  confirm(login_id: string, match?: string): Promise<Confirmation>;
  deny(login_id: string): Promise<{ login_id: string; state: "denied" }>;
  report(login_id: string): Promise<{ ended: number }>;
  signIns(): Promise<SignIn[]>;
  endSignIn(sid: string): Promise<{ ended: number }>;
  endSignIns(): Promise<{ ended: number }>;
  register(invitation: string): Promise<{ subject: string; name: string | null }>;
  /** stale: a session that the broker no longer knows. */
  session(stale?: Session): Promise<Session>;
  signOut(): Promise<void>;
  close(): void;
}

/** Set the broker and the app of the mini program, once, in app.js. */
export declare function configure(options: ScanLoginOptions): ScanLogin;

/** The instance of `configure`. */
export declare function configured(): ScanLogin;

/** Scan a code with the camera. `open` gets its scene, or "" for another code. */
export declare function scanWithCamera(open: (scene: string) => void): void;

/** The launch scene with which the code of `scene` was scanned. */
export declare function howScanned(scene: string): number;

/** The scene in the query of a page, or "". */
export declare function sceneInQuery(query: { scene?: string }): string;

/** The invitation in a scene, or "" if it is the scene of a login. */
export declare function invitationIn(scene: string): string;

/** The scene in the result of wx.scanCode, or "". */
export declare function sceneInScan(
  result: Partial<Pick<WechatMiniprogram.ScanCodeSuccessCallbackResult, "path" | "result">>,
): string;

/** Program and system of a User-Agent, such as `Chrome 126` and `Windows`. */
export declare function readBrowser(userAgent: string): { program: string | null; system: string | null };

/** The detail of the event `outcome` of <scan-login-confirm>. */
export interface OutcomeDetail {
  outcome: string;
  error?: string;
}

/** The detail of the event `register` of <scan-login-confirm>. */
export interface RegisterDetail {
  url: string;
}
