export interface TunnelProblem {
  /** The code of the close frame. */
  code: number;
  reason: string;
  error?: Error;
}

export interface TunnelOptions {
  /** `connectSocket` of `@scan-login/miniprogram/wechat_socket`. */
  connect: (url: string) => unknown;
  /** Resolves with the URL of a new tunnel, from your backend. */
  create: () => Promise<{ url: string }>;
  saved?: object | null;
  onsave?: (saved: object | null) => void;
  /** recovered: false if messages can be missing, as in a new tunnel. */
  onopen: (opened: { recovered: boolean }) => void;
  onmessage: (data: unknown) => void;
  onstatus: (status: Tunnel["status"], problem: TunnelProblem | null) => void;
}

/** A client of a tunnel, which connects at once. */
export declare class Tunnel {
  constructor(options: TunnelOptions);
  readonly status: "connecting" | "open" | "away" | "ended";
  readonly problem: TunnelProblem | null;
  /** Resolves with the reply of the backend. */
  send(data: unknown): Promise<unknown>;
  /** Connect now, for example when the page is shown again. */
  wake(): void;
  close(): void;
}
