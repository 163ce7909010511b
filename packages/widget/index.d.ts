/** A signed access token. Send it to your own backend, which verifies it. */
export interface ScanLoginToken {
  access_token: string;
  token_type: "Bearer";
  /** Seconds. */
  expires_in: number;
  /** The person: the `sub` of the token. */
  subject: string;
}

/** A code is shown. */
export interface ScanLoginBegun {
  login_id: string;
  scene: string;
  /** Seconds. */
  expires_in: number;
}

/** error: a word of the protocol, or of the widget. error_description: for developers. */
export interface ScanLoginError {
  error: string;
  error_description: string;
}

/** The event of a token. A listener takes the token by reading it before its first `await`. */
export interface ScanLoginTokenEvent extends CustomEvent<ScanLoginToken>, Readonly<ScanLoginToken> {
  /** The widget shows "signing in" until `promise` settles. */
  waitUntil(promise: Promise<unknown>): void;
}

export interface ScanLoginEventMap {
  "scan-login-begun": CustomEvent<ScanLoginBegun>;
  "scan-login-scanned": CustomEvent<object>;
  "scan-login-unregistered": CustomEvent<object>;
  "scan-login-denied": CustomEvent<object>;
  "scan-login-expired": CustomEvent<object>;
  "scan-login-offline": CustomEvent<object>;
  "scan-login-online": CustomEvent<object>;
  "scan-login-error": CustomEvent<ScanLoginError>;
  "scan-login-token": ScanLoginTokenEvent;
}

export interface ScanLoginElementEventMap extends HTMLElementEventMap, ScanLoginEventMap {
  login: ScanLoginTokenEvent;
}

export interface ScanLoginAttributes {
  /** The URL of the broker. */
  broker: string;
  /** The id of the app at the broker. Default: `default`. */
  app?: string;
  /** Chinese, English or a language of `texts`. Default: the language of the page. */
  lang?: string;
  /** The name of the app that scans. Default: that of the provider. */
  phone_app?: string;
  /** `off`: an expired code is not replaced by itself. */
  auto_refresh?: "off";
  /** Default: the preference of the system. */
  theme?: "light" | "dark";
}

/** Texts by name: a text, or the title and the hint of a view, or the three steps. */
export type ScanLoginTexts = Record<string, string | string[] | Record<string, string>>;

export interface ScanLoginElement extends HTMLElement {
  /** Gets the token. The widget shows "signing in" until the promise settles. */
  onlogin: ((token: ScanLoginToken) => unknown) | null;
  /** Texts by language, over the built-in ones. */
  texts: Record<string, ScanLoginTexts>;
  /** Show a new code and cancel the current login. */
  refresh(): void;
  addEventListener<K extends keyof ScanLoginElementEventMap>(
    type: K,
    listener: (this: ScanLoginElement, event: ScanLoginElementEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof ScanLoginElementEventMap>(
    type: K,
    listener: (this: ScanLoginElement, event: ScanLoginElementEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | EventListenerOptions,
  ): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "scan-login": ScanLoginElement;
  }
  interface DocumentEventMap extends ScanLoginEventMap {}
}
